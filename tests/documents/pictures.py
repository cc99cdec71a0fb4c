"""Draw the pictures of README.md from a demo run: `make pictures`.

The live view is what the command writes to a terminal in the middle of the run, as SVG; the report
is the top of report.html in Chromium, as PNG.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
COLUMNS, ROWS = 100, 26
WINDOW = "1200,1000"

PROGRAM = (
    "import socket, sys; socket.gethostname = lambda: 'drill-host'; "
    "from orchestrator.__main__ import main; main()"
)
"""The program, on a host whose name may be shown to everybody."""

REDRAWN = re.compile(r"(?:\r|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A)+")
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
THEME = TerminalTheme(
    (16, 20, 28),
    (222, 228, 238),
    [
        *((40, 44, 52), (240, 113, 120), (127, 196, 120), (229, 192, 123)),
        *((97, 175, 239), (198, 120, 221), (86, 182, 194), (200, 205, 214)),
    ],
)


def main() -> int:
    """Draw both pictures, or say which one cannot be drawn here."""
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="drills-") as directory:
        frames = list(_frames(_shown(Path(directory))))
        (PICTURES / "live.svg").write_text(_as_svg(frames), encoding="utf-8")
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is None:
            print(
                "pictures: live.svg is drawn. report.png is not: it needs Chromium, and neither "
                "'chromium' nor 'google-chrome' is installed.",
                file=sys.stderr,
            )
            return 1
        _photograph(chromium, Path(directory) / "demo" / "report" / "report.html")
    return 0


def _shown(directory: Path) -> str:
    """Run the demo on a terminal and return all that it writes there."""
    ours, theirs = pty.openpty()
    environment = {
        name: value for name, value in os.environ.items() if name not in {"CI", "NO_COLOR"}
    }
    environment |= {
        "TERM": "xterm-256color",
        "COLUMNS": str(COLUMNS),
        "LINES": str(ROWS),
        "LOGNAME": "drill",
    }
    arguments = ("demo", "--targets", "200", "--directory", "demo")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment,
        cwd=directory,
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait()
    return written.decode("utf-8", "replace")


def _frames(written: str) -> Iterator[str]:
    """Yield the pictures that the live view drew, one after the other."""
    for part in REDRAWN.split(written.replace("\r\n", "\n")):
        if part.count("\n") > 5:
            yield part.strip("\n")


def _as_svg(frames: list[str]) -> str:
    """Return the frame in the middle of the run."""
    frame = frames[len(frames) // 2]
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), force_terminal=True, highlight=False
    )
    console.print(Text.from_ansi(frame))
    svg = console.export_svg(title="bulk-restore run", theme=THEME, unique_id="live")
    return FONT_FACE.sub("", svg)  # nothing from outside


def _photograph(chromium: str, page: Path) -> None:
    subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-background-networking", f"--window-size={WINDOW}"),
            f"--screenshot={PICTURES / 'report.png'}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )


if __name__ == "__main__":
    sys.exit(main())
