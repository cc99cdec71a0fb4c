"""Write the parts of README.md and docs/ that are made from the code."""

from __future__ import annotations

from tests.documents.made import pages, renewed


def main() -> None:
    """Write every page whose made parts have changed."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = renewed(before)
        if after != before:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
