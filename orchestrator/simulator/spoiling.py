"""One row or one declaration of an answer, made as a .NET service can write it.

Works on the text of an answer that is otherwise right, so that every list has its bad row.
Source: reference 18.2, traps 59 to 64.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

ROW = re.compile(
    r"<(VmReplicaPoint|VmRestorePoint|AgentRestorePoint|VmReplicaPointMount|VmRestorePointMount"
    r"|AgentRestorePointMount|Ref|Task|LogonSession|FileEntry|DirectoryEntry)\b[^>]*>.*?</\1>",
    re.DOTALL,
)
"""What a list consists of; a document of one row is one, too."""

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TASK_ID = re.compile(r"<TaskId>.*?</TaskId>|(?<=tasks/)task-\d+")
_TIME = re.compile(r"<(CreationTimeUTC|ModifiedDateUTC)>.*?</\1>")
_NAMED = re.compile(r"</(Message|Owner|VmName|Name|UserName)>")
_STATE = re.compile(r"<State>.*?</State>")
_RESULT = re.compile(r"<Result\b[^>]*?(?:/>|>.*?</Result>)", re.DOTALL)
_NUMBER = re.compile(r"<(State|Size|CreationTimeUTC|Success)>[^<]*</\1>")


def _without_id(row: str) -> str:
    return _TASK_ID.sub("", _GUID.sub("", row))


def _at(time: str) -> Callable[[str], str]:
    return lambda row: _TIME.sub(rf"<\1>{time}</\1>", row)


ROW_SPOILS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "row_without_id": _without_id,
        "row_without_date": lambda row: _TIME.sub("", row),
        "row_far_date": _at("30828-09-14T02:48:05.4775807Z"),
        "row_first_date": _at("0001-01-01T00:00:00"),
        "row_bad_character": lambda row: _NAMED.sub(r"&#x1;</\1>", row, count=1),
        "row_odd_state": lambda row: _STATE.sub("<State>WaitingForCollection</State>", row),
        "row_hollow_result": lambda row: _RESULT.sub("<Result />", row),
        "row_odd_result": lambda row: _RESULT.sub('<Result Success="Warning" />', row),
        "row_nil": lambda row: _NUMBER.sub(r'<\1 xsi:nil="true" />', row, count=1),
    }
)
"""What becomes of the row; a row that stays as it is had nothing to spoil."""

DOCUMENT_SPOILS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "no_encoding": lambda text: text.replace(' encoding="utf-8"', "", 1),
        "utf16_declared": lambda text: text.replace('encoding="utf-8"', 'encoding="utf-16"', 1),
        "byte_order_mark": lambda text: "\ufeff" + text,
    }
)


XML_SPOILS = frozenset(DOCUMENT_SPOILS)
"""What only a document in XML has."""


def spoiled(text: str, kind: str, wanted: str = "") -> str | None:
    """Return the answer with one thing wrong, or None where there is nothing of that kind.

    The row is the first that can be spoiled among those in which the expression `wanted` is found.
    """
    if kind in DOCUMENT_SPOILS:
        document = DOCUMENT_SPOILS[kind](text)
        return document if document != text else None
    for row in ROW.finditer(text):
        if re.search(wanted, row[0]) is None:
            continue
        bad = ROW_SPOILS[kind](row[0])
        if bad != row[0]:
            return text[: row.start()] + bad + text[row.end() :]
    return None
