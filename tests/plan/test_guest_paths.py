"""Paths inside of a guest: complete ones are taken as they are, everything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.model import OsKind
from orchestrator.plan.file.guest_paths import base_name, guest_path, os_of

WINDOWS = [
    ("C:\\", ""),
    ("c:/Windows/System32/config/SYSTEM", "SYSTEM"),
    ("D:\\Daten & mehr\\100% #1\\Bücher 書.mdf", "Bücher 書.mdf"),
    ("Volume$0:\\EFI\\Boot", "Boot"),
    ("volume0:/x", "x"),
    ("E:\\Data\\", "Data"),
    ("C:\\pagefile.sys:x"[:15], "pagefile.sys"),
]
LINUX = [
    ("/", ""),
    ("/etc/nginx/nginx.conf", "nginx.conf"),
    ("/srv/a b/100%#*?<>|\\:", "100%#*?<>|\\:"),
    ("/srv/www/", "www"),
    ("/...", "..."),
]


@pytest.mark.parametrize(("path", "name"), WINDOWS)
def test_a_complete_windows_path_stays_as_it_is(path: str, name: str) -> None:
    """Both separators, volumes without a letter, spaces, %, # and any script."""
    assert guest_path(path) == path
    assert (os_of(path), base_name(path)) == (OsKind.WINDOWS, name)


@pytest.mark.parametrize(("path", "name"), LINUX)
def test_a_complete_linux_path_stays_as_it_is(path: str, name: str) -> None:
    """Whatever a Linux name may hold, also what Windows forbids."""
    assert guest_path(path) == path
    assert (os_of(path), base_name(path)) == (OsKind.LINUX, name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "this is empty"),
        ("  ", "this is empty"),
        ("C:", "no complete path"),
        ("C:Windows", "no complete path"),
        ("\\Windows", "no complete path"),
        ("etc/passwd", "no complete path"),
        (" /etc", "no complete path"),
        ("CD:\\x", "no complete path"),
        ("Volume$:\\x", "no complete path"),
        ("Volume٣:\\x", "no complete path"),
        ("\\\\?\\C:\\x", "network path"),
        ("//server/share", "two separators"),
        ("C:\\\\x", "two separators"),
        ("/a//b", "two separators"),
        ("C:\\a\\..\\b", "goes by '..'"),
        ("C:/a/../b", "goes by '..'"),
        ("/..", "goes by '..'"),
        ("/a/./b", "goes by '.'"),
        ("C:\\a:stream", "holds ':'"),
        ("C:\\a*", "chosen by 'glob'"),
        ("/a\nb", "control character"),
        ("C:\\a\x7f", "control character"),
        ("/a\x85", "control character"),
        ("/" + "a" * 4096, "too long"),
    ],
)
def test_what_is_no_complete_path_is_refused_with_the_reason(path: str, words: str) -> None:
    """Relative, leading elsewhere, or impossible: no check would ever look at it rightly."""
    with pytest.raises(ValueError, match=r"[a-z]") as caught:
        guest_path(path)

    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_whatever_is_taken_leads_nowhere_else(text: str) -> None:
    """No accepted path has a `..` or a control character, by either system's separators."""
    for path in (text, f"C:\\{text}", f"/{text}"):
        try:
            taken = guest_path(path)
        except ValueError:
            continue

        assert taken == path
        parts = taken.replace("\\", "/").split("/") if taken[0] != "/" else taken.split("/")
        assert ".." not in parts
        assert not any(ord(char) < 32 for char in taken)
