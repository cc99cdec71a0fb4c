"""Addresses of files and directories of a mounted guest: built, or the server's own made safe.

Host, family, mount and directory are always those that were asked for; only how a name is
encoded is the server's affair. So no listing can lead a request anywhere else.
Source: reference 6.2.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import quote, unquote

from msgspec.structs import replace

from orchestrator.core.errors import MalformedResponse
from orchestrator.core.model import FileSystemEntry, Href
from orchestrator.em.decoding import REPLACED, is_allowed
from orchestrator.em.links import guest_part
from orchestrator.em.wire import Page

_PATH_SAFE = "/:$@!&'()*+,;=-._~"
"""What stands for itself in a guest path; `%`, `#`, `?` and everything else is encoded."""
_NAME_SAFE = _PATH_SAFE.replace("/", "")
"""The same within one name, where a slash would be another directory."""


def bare(address: Href) -> Href:
    """Return an address without its query."""
    return Href(address.partition("?")[0])


def address(mount: Href, path: str) -> Href:
    """Return the address of a path as a plan writes it: with either slash, volume first."""
    return Href(f"{mount}/{quote(path.replace(chr(92), '/').strip('/'), safe=_PATH_SAFE)}")


def root_of(mount: Href, root: FileSystemEntry) -> FileSystemEntry:
    """Return a volume with its address below this mount, in the server's spelling.

    That of `/` stays as it is byte for byte: proxies decode `%2F`, merge slashes or refuse them.
    Source: reference 18.1, trap 51.
    """
    part = guest_part(root.href)
    if part is not None and not unquote(part).strip("/"):
        return replace(root, href=Href(f"{mount}/{part}"))
    if part is None or "/" in part.strip("/"):
        return replace(root, href=address(mount, root.path))
    return replace(root, href=Href(f"{mount}/{part.strip('/')}"))


def listed_in(directory: Href, row: FileSystemEntry) -> FileSystemEntry:
    """Return an entry of a listing with its address below the directory that was asked for.

    Below `/`, whose own address has many spellings, the server's own counts byte for byte.
    An Href that means something else than the entry's name gives way to one that is built. One
    without a name has no address: it can be counted, and never asked for.

    Raises:
        MalformedResponse: the entry is of another directory.
    """
    name, part = _name_of(row), guest_part(row.href)
    if not name:
        return replace(row, name="", href=Href(""))
    asked = guest_part(directory) or ""
    is_root = not unquote(asked).strip("/")
    top = directory.removesuffix(asked)
    base = (top if is_root else directory).rstrip("/")
    built = replace(row, name=name, href=Href(f"{base}/{quote(name, safe=_NAME_SAFE)}"))
    if part is None:
        return built
    above, _, last = part.rpartition("/")
    if _folded(unquote(above).strip("/")) != _folded(unquote(asked).strip("/")):
        raise MalformedResponse("the listing has an entry of another directory")
    if _folded(_as_read(unquote(last))) != _folded(name):
        return built
    return replace(built, href=Href(f"{top}{part}" if is_root else f"{base}/{last}"))


def itself(asked: Href, page: Page[FileSystemEntry]) -> FileSystemEntry:
    """Return the one file or directory that was asked for.

    Some servers answer for a directory with its listing.

    Raises:
        MalformedResponse: the answer is about something else, or about several things.
    """
    path = unquote(guest_part(asked) or "").rstrip("/")
    name = path.rpartition("/")[2]
    if not page.is_itself:
        return FileSystemEntry(path=path, name=name, href=asked, is_directory=True)
    if len(page.rows) != 1:
        raise MalformedResponse(f"the answer is about {len(page.rows)} things, not 1")
    if _folded(_name_of(page.rows[0]).strip("/")) != _folded(name):
        raise MalformedResponse("the answer is about another file or directory")
    return replace(page.rows[0], href=asked)


def _name_of(entry: FileSystemEntry) -> str:
    """Return an entry's name, from its address if the server sends none."""
    return entry.name or unquote((guest_part(entry.href) or "").rstrip("/").rpartition("/")[2])


def _as_read(name: str) -> str:
    """Return a name as an answer shows it: XML has no place for some characters."""
    return "".join(char if is_allowed(ord(char)) else REPLACED for char in name)


def _folded(name: str) -> str:
    """Return a name as two spellings of it are compared; case never matters here."""
    return unicodedata.normalize("NFC", name).casefold().strip()
