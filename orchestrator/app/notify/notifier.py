"""Sends the messages about a run to its webhooks: an observer with bounded queues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from orchestrator.app.notify.composing import Notice, RunEnding, composed, composed_end
from orchestrator.app.notify.posting import NotDelivered, Patience, Webhook
from orchestrator.app.notify.shapes import body
from orchestrator.core.errors import CredentialError
from orchestrator.core.events import Event
from orchestrator.core.exit_codes import DECLINED
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.run_state import RunState
from orchestrator.log import Log
from orchestrator.plan.file.access import SecretReference
from orchestrator.plan.file.settings import Notification

log = Log(__name__)

WAITING = 50
"""Messages that wait for one webhook; further ones are dropped, counted and reported."""

GRACE_S = 20.0
"""How long, in all, the end of a run waits for its messages to arrive."""

Resolve = Callable[[SecretReference], Awaitable[str]]
"""Returns the secret that a reference names, or raises CredentialError."""


class Notifier:
    """Sends each webhook of a plan the events it asks for; implements `ports.Observer`."""

    def __init__(
        self,
        hooks: Sequence[Notification],
        state: Callable[[], RunState | None],
        resolve: Resolve,
        *,
        patience: Patience | None = None,
        grace: float = GRACE_S,
    ) -> None:
        """`state` gives the fold of the run, the event that is observed included."""
        self._state = state
        self._grace = grace
        self.sent_code: int | None = None
        """The exit code that the message about the end was sent with."""
        self._lines = [
            _Line(number, hook, resolve, patience or Patience())
            for number, hook in enumerate(hooks, start=1)
        ]

    @property
    def is_needed(self) -> bool:
        """True if the plan names a webhook."""
        return bool(self._lines)

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Queue a message about the event for the webhooks that ask for it."""
        state = self._state() if record is None and self._lines else None
        notice = composed(event, state) if state is not None else None
        if notice is not None:
            self._offer(notice)

    def _offer(self, notice: Notice) -> None:
        for line in self._lines:
            line.offer(notice)

    @asynccontextmanager
    async def delivering(self, note: Callable[[str], object]) -> AsyncIterator[None]:
        """Post what is queued while the context lasts; `note` gets the failures."""
        if not self._lines:
            yield
            return
        async with anyio.create_task_group() as tasks:
            for line in self._lines:
                tasks.start_soon(line.deliver, note)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    async def finish(self, ending: RunEnding, *, only_finished: bool = False) -> None:
        """Send the end, and wait until everything is delivered, or for a bounded time.

        Cancelling it ends the waiting; what was not delivered is noted all the same.
        """
        self.sent_code = ending.exit_code
        state = self._state()
        # A run that was declined began nothing, and needs no message.
        if state is not None and all(stop.signal != DECLINED for stop in state.stops):
            for notice in composed_end(state, ending):
                self._offer(notice)
                if only_finished:
                    break
        try:
            with anyio.move_on_after(self._grace):
                for line in self._lines:
                    await line.ended()
        finally:
            for line in self._lines:
                line.sum_up()


class _Line:
    """The way to one webhook: a queue, and how many messages did not arrive."""

    def __init__(
        self, number: int, hook: Notification, resolve: Resolve, patience: Patience
    ) -> None:
        self.name = f"notification {number} ({hook.kind})"
        self._hook = hook
        self._resolve = resolve
        self._patience = patience
        self._queue, self._taken = anyio.create_memory_object_stream[Notice](WAITING)
        self._ended = anyio.Event()
        self._note: Callable[[str], object] = lambda message: None
        self._offered = self._delivered = self._noted = 0
        self._down = False
        """Set once it is reported that nothing can be delivered at all."""
        self._why = "it was not sent"

    def offer(self, notice: Notice) -> None:
        """Queue a message if this webhook wants it."""
        if notice.event not in self._hook.on:
            return
        self._offered += 1
        try:
            self._queue.send_nowait(notice)
        except anyio.WouldBlock:
            self._why = f"more than {WAITING} were waiting"
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the line is down, and that was told

    async def ended(self) -> None:
        """Take nothing more, and return when everything taken was tried."""
        self._queue.close()
        await self._ended.wait()

    def sum_up(self) -> None:
        """Note how many messages did not arrive, unless that was noted already."""
        self._queue.close()
        missing = self._offered - self._delivered
        if missing > self._noted and not self._down:
            of = f"{missing} of {self._offered} messages were"
            self._tell(f"{of} not delivered; the last: {self._why}")
            self._noted = missing

    async def deliver(self, note: Callable[[str], object]) -> None:
        """Post the queued messages, one after the other."""
        self._note = note
        try:
            with self._taken:
                await self._deliver(self._taken)
        except (NotDelivered, CredentialError) as exc:
            self._why = str(exc)
            self._tell(f"nothing can be delivered: {exc}")
            self._down = True
        except Exception as exc:  # noqa: BLE001 - a message must not hurt a run
            self._why = f"internal error ({type(exc).__name__})"  # its text may hold the address
            log.error("notification.internal_error", to=self.name, error=type(exc).__name__)  # noqa: TRY400 - a traceback's last line may hold the address
        finally:
            self._ended.set()

    async def _deliver(self, taken: MemoryObjectReceiveStream[Notice]) -> None:
        address = await self._resolve(self._hook.url)
        authorities = self._authorities()
        async with Webhook(address, authorities, self._patience, kind=self._hook.kind) as webhook:
            async for notice in taken:
                self._why = "the time was over"
                try:
                    await webhook.post(body(notice, self._hook.kind))
                except NotDelivered as exc:
                    self._failed(notice, str(exc))
                else:
                    self._delivered += 1

    def _authorities(self) -> bytes | None:
        """Return the certificates that are trusted in place of the system's.

        Raises:
            NotDelivered: they cannot be read.
        """
        try:
            return self._hook.authorities()
        except OSError as exc:
            raise NotDelivered(f"its ca_file cannot be used: {exc.strerror}") from None

    def _failed(self, notice: Notice, why: str) -> None:
        """Note the first message that fails; the others are counted at the end."""
        self._why = why
        log.warning("notification.failed", to=self.name, what=notice.event.value, why=why)
        if self._noted == 0:
            self._noted = 1
            self._tell(f"'{notice.event}' was not delivered: {why}")

    def _tell(self, message: str) -> None:
        try:
            self._note(f"{self.name}: {message}")
        except Exception as exc:  # noqa: BLE001 - nobody is hurt by what could not be noted
            log.error("notification.not_noted", to=self.name, error=type(exc).__name__)  # noqa: TRY400 - as above
