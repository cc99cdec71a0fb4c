"""Reports of a run, from its journal: one summary, rendered in several formats.

    report = summarize(state)          # pure
    write(report, directory)           # report.json, .html, .md, .csv, .txt, junit.xml

Result and mount are two facts, also in every rendering. What was not measured is absent or null.
"""
