"""The JSON form of answers and requests' bodies. Source: reference 1.5 and 17."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from orchestrator.core.model import OsKind
from orchestrator.em.elements import Element, Reading
from orchestrator.em.json_reading import JsonReading, JsonRowReading
from orchestrator.em.wire import Codec

T = TypeVar("T")


class JsonCodec(Codec):
    """The JSON form: sent in the case of every documented example, read in any."""

    media_type = "application/json"

    def mount_spec(self, os_kind: OsKind) -> bytes:
        return json.dumps({"OsKind": os_kind.value}).encode()

    def staging_spec(self) -> bytes:
        return b'{"ForDirectDownload":{}}'

    def original_location_spec(self, *, overwrite: bool) -> bytes:
        return json.dumps({"ToOriginalLocation": {"Overwrite": overwrite}}).encode()

    def reading(self, finish: Callable[[Element], T]) -> Reading[T]:
        return JsonReading(finish)

    def row_reading(
        self, tag: str, finish: Callable[[Element], T], keep: Callable[[Element], int]
    ) -> Reading[T]:
        return JsonRowReading(tag, finish, keep)
