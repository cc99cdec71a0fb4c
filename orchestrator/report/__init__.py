"""What the journal says, rendered: one fold, several renderings that cannot disagree.

    report = summarize(state)          # pure
    write(report, directory)           # report.json, .html, .md, .csv, .txt, junit.xml

Result and mount are two facts and stay two facts in every rendering. What was not measured
is absent or null, never invented.
"""

from orchestrator.report.exit_codes import ExitCode, exit_code
from orchestrator.report.schema import report_json_schema
from orchestrator.report.summary import Report, summarize
from orchestrator.report.text import reached_of_wanted, text
from orchestrator.report.writing import write

__all__ = [
    "ExitCode",
    "Report",
    "exit_code",
    "reached_of_wanted",
    "report_json_schema",
    "summarize",
    "text",
    "write",
]
