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

from orchestrator.checks.content import Content, judge_content
from orchestrator.checks.directory import judge_baseline, judge_directory
from orchestrator.checks.metadata import judge_path
from orchestrator.checks.names import Names
from orchestrator.checks.outcomes import About, Unreadable, unmade
from orchestrator.checks.programs import Ended, judge_program, program_name

__all__ = [
    "About",
    "Content",
    "Ended",
    "Names",
    "Unreadable",
    "judge_baseline",
    "judge_content",
    "judge_directory",
    "judge_path",
    "judge_program",
    "program_name",
    "unmade",
]
