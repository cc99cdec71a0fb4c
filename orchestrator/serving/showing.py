"""What `--serve` and `--metrics-file` do beside a run, or beside a journal that is followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from orchestrator.events import Event
from orchestrator.lifecycle import MountRecord
from orchestrator.outlook import Expected
from orchestrator.runstate import RunState
from orchestrator.serving.address import LOOPBACK, Address
from orchestrator.serving.board import Board
from orchestrator.serving.metrics import metrics
from orchestrator.serving.textfile import write_whole
from orchestrator.serving.token import fresh_token

log = structlog.get_logger(__name__)

TICK_S = 0.5
METRICS_EVERY_S = 15.0
LAST_WRITE_S = 5.0
"""Seconds that the last metrics may take to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where the page is served, and the token that opens it.

    `names` are further ones that it may be asked for by; see `served_name`.
    """

    address: Address = LOOPBACK
    names: tuple[str, ...] = ()
    token: str = field(default_factory=fresh_token, repr=False)


class NotServed(Exception):
    """There is no page, and nothing else to show; the message says where and why."""


class Showing:
    """An observer with a board, and what goes on beside it until it is cancelled.

    Nothing that fails in here reaches the run: it is told once, and the rest goes on.
    """

    def __init__(
        self,
        *,
        page: Page | None,
        metrics_file: Path | None,
        tell: Callable[[str], None],
        grace_s: float = 1.0,
        alone: bool = False,
    ) -> None:
        """`tell` shows a line to a person; `grace_s` is what the last picture may cost the end.

        `alone`: there is no run to be kept from harm, so a page that fails is an error.
        """
        self.board = Board()
        self._page, self._metrics_file = page, metrics_file
        self._tell, self._grace_s, self._alone = tell, grace_s, alone
        self._is_writable = True

    def expect(self, expected: Expected) -> None:
        """Know what earlier runs say of durations."""
        self.board.expect(expected)

    def take_over(self, found: RunState) -> None:
        """Begin with what earlier processes of the run did."""
        self.board.take_over(found)

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Fold the event into the board."""
        self.board.observe(event, record)

    async def accompany(self, now: Callable[[], float]) -> None:
        """Serve and write until cancelled; `now` is the run's clock.

        Raises:
            NotServed: the page cannot be served, and there is nothing else; see `alone`.
        """
        async with anyio.create_task_group() as tasks:
            if self._page is not None:
                tasks.start_soon(self._serve, self._page, now)
            if self._metrics_file is not None:
                tasks.start_soon(self._write, self._metrics_file, now)

    async def _serve(self, page: Page, now: Callable[[], float]) -> None:
        from orchestrator.serving.site import open_site  # aiohttp's server: only who serves pays

        where = page.address.authority
        try:
            async with open_site(
                self.board, page.address, page.token, names=page.names, grace_s=self._grace_s
            ) as site:
                if not page.address.is_loopback:
                    self._tell(
                        "WARNING: the page is served unencrypted to other machines; whoever reads "
                        "the network reads the token, and with it the page"
                    )
                self._tell(f"Web view: {site.link}")
                while True:
                    site.tick(now())
                    await anyio.sleep(TICK_S)
        except OSError as exc:
            self._miss(f"the web view cannot be served on {where}: {exc.strerror or exc}", exc)
        except Exception as exc:
            log.warning("web.failed", exc_info=True)
            self._miss("the web view has failed and is served no more", exc)

    def _miss(self, what: str, cause: Exception) -> None:
        """Tell that there is no page; beside a run nothing more comes of it."""
        if self._alone:
            raise NotServed(what) from cause
        self._tell(f"{what}; the run goes on (bulk-restore serve shows it elsewhere)")

    async def _write(self, path: Path, now: Callable[[], float]) -> None:
        try:
            while True:
                await self._write_once(path, now)
                await anyio.sleep(METRICS_EVERY_S)
        finally:
            with anyio.move_on_after(LAST_WRITE_S, shield=True):
                await self._write_once(path, now)

    async def _write_once(self, path: Path, now: Callable[[], float]) -> None:
        """Write in a thread: a disk that hangs delays nobody."""
        try:
            self.board.at(now())
            text = metrics(self.board)
            await anyio.to_thread.run_sync(write_whole, path, text, abandon_on_cancel=True)
        except Exception as exc:  # noqa: BLE001 - nothing about metrics may end a run
            if self._is_writable:
                why = exc.strerror if isinstance(exc, OSError) and exc.strerror else repr(exc)
                self._tell(f"the metrics cannot be written to {path}: {why}; the run goes on")
            self._is_writable = False
        else:
            self._is_writable = True
