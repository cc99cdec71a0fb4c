"""Which form a server is spoken to in: what the plan says, or what is found out.

XML is spoken by every version from 9 to 13, and its names never changed; those of JSON did, in 13.
So it is asked for until a server answers in JSON all the same, or says that it does not have XML.
Only three questions find that out: the service root, a logon, and whether a session is there.
Source: reference 1.3 (rule 7), 1.5, 17.1 and 19.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from orchestrator.core.errors import EnterpriseManagerError
from orchestrator.em.elements import BOM, Reading
from orchestrator.em.json_codec import JsonCodec
from orchestrator.em.wire import Codec, XmlCodec
from orchestrator.plan.file.api_format import ApiFormat

T = TypeVar("T")

XML: Final = XmlCodec()
JSON: Final = JsonCodec()
NOT_SPOKEN: Final = frozenset({406, 415})
"""Statuses that say that a form is not spoken."""


class Format:
    """The form that one server is spoken to in, for all its sessions."""

    def __init__(self, wanted: ApiFormat = ApiFormat.XML) -> None:
        """With `auto` it begins with XML."""
        self.codec: Codec = JSON if wanted is ApiFormat.JSON else XML
        self._is_open = wanted is ApiFormat.AUTO

    def reading(self, choose: Callable[[Codec], Reading[T]]) -> Callable[[], Reading[T]]:
        """Return what reads an answer, in either form where that is to be found out."""
        if not self._is_open:
            return lambda: choose(self.codec)
        return lambda: _Either(self, choose)

    @property
    def settled(self) -> Format:
        """The form that was found, for what must not change it: the rest of a session."""
        found = Format()
        found.codec = self.codec
        return found

    def turns_at(self, error: EnterpriseManagerError) -> bool:
        """Return whether another form is spoken from now on, as an answer refused this one."""
        turns = self._is_open and error.status in NOT_SPOKEN and self.codec is XML
        if turns:
            self.codec = JSON
        return turns


class _Either(Generic[T]):
    """Reads what comes, by its first character; implements `Reading`."""

    def __init__(self, form: Format, choose: Callable[[Codec], Reading[T]]) -> None:
        """Nothing has come yet."""
        self._format = form
        self._choose = choose
        self._begun = b""
        self._codec: Codec = XML
        self._reading: Reading[T] | None = None

    def feed(self, chunk: bytes) -> None:
        """Take some bytes. Raises MalformedResponse."""
        if self._reading is None:
            self._begun += chunk
            start = self._begun.removeprefix(BOM).lstrip()
            if not start and len(self._begun) < 1024:
                return
            chunk, self._begun = self._begun, b""
            self._reading = self._made_for(start)
        self._reading.feed(chunk)

    def close(self) -> T:
        """Return the value, and speak that form from now on. Raises MalformedResponse."""
        if self._reading is None:
            return self.whole(self._begun)
        return self._found(self._reading.close())

    def whole(self, body: bytes) -> T:
        """Take the whole body and return its value, as those two."""
        return self._found(self._made_for(body.removeprefix(BOM).lstrip()).whole(body))

    def _made_for(self, start: bytes) -> Reading[T]:
        self._codec = JSON if start.startswith(b"{") else XML
        return self._choose(self._codec)

    def _found(self, value: T) -> T:
        self._format.codec = self._codec  # only an answer that could be read says so
        return value
