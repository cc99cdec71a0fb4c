"""What `--serve` and `--metrics-file` do beside a run, or beside a journal that is followed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.records import Stall
from orchestrator.log import Log
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.web.address import LOOPBACK, Address, fresh_token
from orchestrator.views.web.metrics import last_success_in, metrics
from orchestrator.views.web.page_state import PageState

log = Log(__name__)

TICK_S = 0.5
METRICS_EVERY_S = 15.0
LAST_WRITE_S = 5.0
"""Seconds that the last metrics may take to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """Where the page is served, and the token that opens it.

    `names` are further ones that it may be asked for by; see `served_name`.
    """

    address: Address = LOOPBACK
    names: tuple[str, ...] = ()
    token: str = field(default_factory=fresh_token, repr=False)
    token_file: Path | None = None
    """The file that a person keeps the token in: then it is printed nowhere."""


class NotServed(Exception):
    """There is no page, and nothing else to show; the message has the address and the cause."""


class WebView:
    """An observer that keeps the page's state, and serves and writes it until it is cancelled.

    Nothing that fails in here reaches the run: it is reported once, and the rest goes on.
    """

    def __init__(
        self,
        *,
        page: PageOptions | None,
        metrics_file: Path | None,
        show_line: Callable[[str], None],
        alone: bool = False,
    ) -> None:
        """`show_line` shows a line to a person.

        `alone`: there is no run to be kept from harm, so a page that fails is an error.
        """
        self.page_state = PageState()
        self._page, self._metrics_file = page, metrics_file
        self._show_line, self._alone = show_line, alone
        self._is_writable = True
        self._has_read_old_file = False
        """Whether the last success was read from an older file."""
        self._changed = anyio.Event()
        self._written_state: object = None

    @property
    def stats(self) -> RunStatistics:
        """What is counted of the run that is shown."""
        return self.page_state.stats

    def begin(self, stats: RunStatistics) -> None:
        """Show the run that is counted in `stats`."""
        self.page_state.stats = stats

    def catch_up(self, event: Event, record: MountRecord | None) -> None:
        """Take over what was done before."""
        self.page_state.observe(event, record)

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take over the event."""
        self.page_state.observe(event, record)
        self._write_if_urgent()

    def abandon(self, *, gone: bool) -> None:
        """Take note of whether the run's process is gone; called when another process is shown."""
        self.page_state.abandon(gone=gone)
        self._write_if_urgent()

    def stall(self, stall: Stall | None) -> None:
        """Take note of who works on the run and does not move; called as `abandon` is."""
        self.page_state.stall(stall)
        self._write_if_urgent()

    def _write_if_urgent(self) -> None:
        if self._metrics_file is not None and self._urgent_state() != self._written_state:
            self._changed.set()

    def _urgent_state(self) -> object:
        """Return the part of the metrics whose changes are written at once."""
        page_state, stats = self.page_state, self.page_state.stats
        started = stats.started
        gates = tuple(page_state.server_state(facts.name) for facts in page_state.servers())
        left = stats.may_be_mounted, tuple(stats.unaudited)
        return started and started.run, page_state.state, gates, left

    async def serve(self, now: Callable[[], float]) -> None:
        """Serve and write until cancelled, at the run's end; `now` is the run's clock.

        What must follow then is bounded.

        Raises:
            NotServed: the page cannot be served, and there is nothing else; see `alone`.
        """
        async with anyio.create_task_group() as tasks:
            if self._page is not None:
                tasks.start_soon(self._serve, self._page, now)
            if self._metrics_file is not None:
                tasks.start_soon(self._write, self._metrics_file, now)

    async def _serve(self, page: PageOptions, now: Callable[[], float]) -> None:
        from orchestrator.views.web.server import (
            serve_page,  # aiohttp's server: only who serves pays
        )

        where = page.address.authority
        try:
            async with serve_page(
                self.page_state, page.address, page.token, names=page.names
            ) as site:
                if not page.address.is_loopback:
                    self._show_line(
                        "WARNING: the page is served unencrypted to other machines; whoever reads "
                        "the network reads the token, and with it the page"
                    )
                if page.token_file is None:
                    self._show_line(f"Web view: {site.link}")
                else:
                    where_else = f"add ?token= and the token in {page.token_file} to open it"
                    self._show_line(f"Web view: {site.place} ({where_else})")
                while True:
                    site.tick(now())
                    await anyio.sleep(TICK_S)
        except OSError as exc:
            self._report_missing_page(
                f"the web view cannot be served on {where}: {exc.strerror or exc}", exc
            )
        except Exception as exc:
            log.warning("web.failed", exc_info=True)
            self._report_missing_page("the web view has failed and is served no more", exc)

    def _report_missing_page(self, what: str, cause: Exception) -> None:
        """Report that there is no page; an error only if nothing else is shown."""
        if self._alone:
            raise NotServed(what) from cause
        self._show_line(f"{what}; the run goes on (bulk-restore serve shows it elsewhere)")

    async def _write(self, path: Path, now: Callable[[], float]) -> None:
        """Write at the start, at each change of state, every now and then, and at the end."""
        try:
            while True:
                self._changed = anyio.Event()
                await self._write_once(path, now)
                with anyio.move_on_after(METRICS_EVERY_S):
                    await self._changed.wait()
        finally:
            with anyio.move_on_after(LAST_WRITE_S, shield=True):
                await self._write_once(path, now)

    async def _write_once(self, path: Path, now: Callable[[], float]) -> None:
        """Write in a thread, so that a disk that hangs delays nothing; not before the run."""
        started = self.page_state.stats.started
        if started is None:
            return
        try:
            if not self._has_read_old_file:
                self.page_state.earlier_success = await anyio.to_thread.run_sync(
                    _last_success, path, started.plan, abandon_on_cancel=True
                )
                self._has_read_old_file = True  # and not before: a run may end meanwhile
            self.page_state.advance(now())
            self._written_state = self._urgent_state()
            text = metrics(self.page_state)
            await anyio.to_thread.run_sync(write_whole, path, text, abandon_on_cancel=True)
        except Exception as exc:  # noqa: BLE001 - nothing about metrics may end a run
            if self._is_writable:
                why = exc.strerror if isinstance(exc, OSError) and exc.strerror else repr(exc)
                self._show_line(f"the metrics cannot be written to {path}: {why}; the run goes on")
            self._is_writable = False
        else:
            self._is_writable = True


def _last_success(path: Path, plan: str) -> float | None:
    """Return the last success in an earlier run's file; None if it cannot be read."""
    try:
        return last_success_in(path.read_text(encoding="utf-8", errors="replace"), plan)
    except OSError:
        return None


def write_whole(path: Path, text: str) -> None:
    """Replace the file in one step, so that no reader sees half of it; others may read it.

    Raises:
        OSError: it cannot be written; the old one, if any, still stands.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")  # a name the collector passes over
    try:
        with fresh.open("w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
