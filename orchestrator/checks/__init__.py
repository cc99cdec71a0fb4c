"""Verdicts on the content of a mounted guest: pure functions from what was read to outcomes.

The engine reads (an entry, a listing, the bytes of a file, the end of a program) and hands
over what it got, or an `Unreadable` with the reason; what comes back is one outcome for each
assertion of the check. A check that could not be made has failed::

    entry or Unreadable       metadata.judge_path        exists, size, age, owner
    listing or Unreadable     directory.judge_directory  counts, newest, absent patterns
                              directory.judge_baseline   against the last verified run
    Content or Unreadable     content.judge_content      sha256, contains, matches, magic
    Ended                     programs.judge_program     exit code 0, 1, 2

Names and texts of a guest are hostile: whatever is shown of them is escaped and shortened.
"""
