"""Errors, arranged by what the caller may do next.

    OrchestratorError
    ├── PlanError                 fix the plan; nothing was sent
    ├── CredentialError           a secret reference cannot be resolved
    ├── IllegalTransition         a bug of ours: an event that the table does not allow
    ├── RunNotFound               the journal has no such run: name another
    ├── JournalError              stop: later steps could not be recovered
    │   ├── JournalDamaged        the record named is not what was written
    │   ├── JournalLocked         another process holds its lock: nothing is broken, try again
    │   ├── DatabaseAway          it may have happened or not: repeat it, that is safe
    │   └── DatabaseUnusable      not ours, another version, or no right to it: have it set up
    ├── Fenced                    another worker serves the shard: send nothing more for it
    ├── CannotResume              nothing to go on with, or not with this plan; nothing was sent
    ├── AddressRefused            no such database is used: mend --state; nothing was connected
    ├── KeyUnusable               a key file for signing, checking or sealing: name another
    ├── TokenUnusable             a sealed token does not open: log on anew
    ├── RunLocked                 another process runs this plan, or works on this run
    ├── FileNotSaved              one file cannot be written on this machine; nothing else fails
    ├── ServerUnusable            this Enterprise Manager cannot be used in this run
    └── EnterpriseManagerError    one server, one request
        ├── RequestNotSent        nothing reached the server: repeat freely
        │   ├── HostExhausted     this machine lacks something: wait, and blame no server
        │   └── LogonTooSoon      the account was logged on to often enough for now: wait
        ├── RequestRefused        answered, nothing was started
        │   ├── NotFound          no such thing (404, or 500 for a task of another session)
        │   ├── AnsweredByPage    not the service's own words: nothing is known of the thing
        │   │   └── PageNotFound  with 404: it does not say that the thing is gone
        │   ├── Unreadable        only this answer of a server that is well cannot be read
        │   ├── AccessDenied      the role does not allow it (403)
        │   ├── GuestUnreadable   about this path of a guest nothing can be read; go on elsewhere
        │   └── ServiceBusy       overload or maintenance: repeat after a pause
        ├── ResponseLost          it may have taken effect: in doubt; so is what a proxy answers
        ├── SessionLost           the logon session is gone; its tasks and mounts are out of reach
        ├── LogonRefused          bad credentials or no role: never repeated
        ├── AddressUnusable       another port or service, or no TLS to agree on: never repeated
        │   └── CertificateRefused    the server is not the one the plan trusts: never repeated
        ├── MalformedResponse     an answer that cannot be read
        │   ├── EmptyAnswer       one without the body that is due: read again
        │   └── ForeignAnswer     a success of some other service
        └── ForbiddenAction       our own allow-list stopped the request; nothing was sent

Data sits in attributes. Messages hold no token, no password and no unbounded body.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol


class OrchestratorError(Exception):
    """Base of every error of this program."""


class PlanProblem(Protocol):
    """One reason why a plan cannot be used; `str()` is what a person reads.

    That is `file:line:column: message`, the line and a caret. Problems of one `kind` are in one
    file and differ in names and numbers only.
    """

    @property
    def kind(self) -> tuple[str, str]:
        """The file, and the message without names and numbers."""

    @property
    def head(self) -> str:
        """The first line: `file:line:column: message`."""


SHOWN_OF_A_KIND = 20
"""Problems of one kind that are shown; the others are counted."""


def in_brief(problems: Iterable[PlanProblem]) -> Iterator[str]:
    """Yield the text of each problem, but of one kind at most 20, and then how many more."""
    numbers: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], PlanProblem] = {}
    for problem in problems:
        kind = problem.kind
        first.setdefault(kind, problem)
        numbers[kind] += 1
        if numbers[kind] <= SHOWN_OF_A_KIND:
            yield str(problem)
    for kind, problem in first.items():
        more = numbers[kind] - SHOWN_OF_A_KIND
        if more > 0:
            yield f"{more} more of this kind: {problem.head}"


class PlanError(OrchestratorError):
    """The plan cannot be used; `problems` holds every reason found in one pass.

    Its text shows at most 20 of a kind, and how many more there are.
    """

    def __init__(self, problems: tuple[PlanProblem, ...]) -> None:
        """Keep `problems`, in the order of the file."""
        self.problems = problems
        super().__init__(problems)

    def __str__(self) -> str:
        """Return the problems, each with the line and a caret."""
        return "\n".join(in_brief(self.problems))


class CredentialError(OrchestratorError):
    """A secret reference of the plan cannot be resolved; the message never holds the value."""


class IllegalTransition(OrchestratorError):
    """An event arrived that the transition table does not allow in this phase."""


class JournalError(OrchestratorError):
    """The journal cannot be read or written; the run must stop."""


class JournalDamaged(JournalError):
    """A stored record is not what was written; the message names it."""


class ReportKept(JournalError):
    """A report has what the journal does not have; nothing was written over it."""


class JournalLocked(JournalError):
    """Another process holds the lock of the database; nothing was changed, and may be repeated."""


class DatabaseAway(JournalError):
    """The database cannot be reached, gave no answer, or takes nothing at the moment.

    What was asked of it may have happened or not. Everything may be repeated: what is there
    already is found.
    """


class DatabaseUnusable(JournalError):
    """The database is none of ours, of another version, or denies this account what it needs."""


class SiteDenied(DatabaseUnusable):
    """The database gives this account nothing of a site: there is a role for those who serve it."""


class NotEntered(DatabaseUnusable):
    """The database does not know this worker: it has not entered, or a failover has lost that."""


class RunNotFound(OrchestratorError):
    """The journal holds no run of that name, or several."""


class CannotResume(OrchestratorError):
    """The run cannot be continued, or not with this plan; nothing was sent."""


class AddressRefused(OrchestratorError):
    """The address of a database must not be used; nothing was connected. Shows no secret."""


class KeyUnusable(OrchestratorError):
    """A file is no key that can sign, check or seal; the message holds nothing of it."""


class TokenUnusable(OrchestratorError):
    """A sealed token does not open with this key here; the message holds nothing of it."""


class Fenced(OrchestratorError):
    """Another worker holds the lease of an Enterprise Manager: this one sends it nothing more.

    It is nobody's fault, and says nothing of the server. The other worker goes on with its session,
    tasks and mounts, so nothing is repeated, cleaned up or recorded because of it.
    """

    def __init__(self, server: str) -> None:
        """`server` is its name in the plan."""
        super().__init__(f"another worker has taken over {server}: nothing more is sent to it")
        self.server = server


class RunLocked(OrchestratorError):
    """Another process holds the lock of this plan, or of this run of it.

    `run` is what it works on, where the lock says so.
    """

    def __init__(self, message: str, run: str | None = None) -> None:
        """With a message that names who holds it, and what to do."""
        super().__init__(message)
        self.run = run


class ServerUnusable(OrchestratorError):
    """This Enterprise Manager cannot be used in this run; the message says why."""


class FileNotSaved(OrchestratorError):
    """A file of a guest cannot be written on this machine: that file has failed, nothing else."""


class EnterpriseManagerError(OrchestratorError):
    """Something about one request to one Enterprise Manager.

    `server` and `request` (method and path, never a query with values) name it;
    `status` is the HTTP status if there was an answer; `words` are the server's own,
    shortened to 300 characters.
    """

    def __init__(
        self,
        message: str,
        *,
        server: str = "",
        request: str = "",
        status: int | None = None,
        words: str | None = None,
    ) -> None:
        """Describe the failure in `message`; everything else stays readable as data."""
        super().__init__(message)
        self.server = server
        self.request = request
        self.status = status
        self.words = words


class RequestNotSent(EnterpriseManagerError):
    """Nothing reached the server; repeating is always safe."""


class HostExhausted(RequestNotSent):
    """This machine has no file descriptor (or the like) left; this is no fault of the server."""


class LogonTooSoon(RequestNotSent):
    """The account was logged on to often enough for now; the next may be sent in `wait_s`."""

    def __init__(self, message: str, *, wait_s: float, server: str = "") -> None:
        """Like any request that was not sent, with the seconds until it may be."""
        super().__init__(message, server=server)
        self.wait_s = wait_s


class RequestRefused(EnterpriseManagerError):
    """The server answered and started nothing.

    Of a request that acts, only the service's own words say so.
    """

    @property
    def is_internal(self) -> bool:
        """True if something broke inside the server (500): for now, or for this request always."""
        return self.status == 500


class NotFound(RequestRefused):
    """The service itself says that the thing does not exist, or not in this logon session."""

    is_internal = False


class AnsweredByPage(RequestRefused):
    """A proxy or the system answered in the service's place: nothing is known of the request.

    It is a fault of the way there, for now or for this request always.
    """

    is_internal = True


class PageNotFound(AnsweredByPage):
    """A 404 without the service's own words, as the system answers while the service is stopped."""


class Unreadable(RequestRefused):
    """An answer that cannot be read, from a server that is well: it is about this one request."""

    is_internal = True


class AccessDenied(RequestRefused):
    """The account's role or scope does not allow this."""


class GuestUnreadable(RequestRefused):
    """What the server says of a guest's path cannot be read, though it answers well otherwise."""


class ServiceBusy(RequestRefused):
    """The server is overloaded or in maintenance."""

    retry_after_s: float | None = None
    """The pause in seconds that it asked for, if it named one."""


class ResponseLost(EnterpriseManagerError):
    """The request was (or may have been) sent and its answer is lost: in doubt."""


class SessionLost(EnterpriseManagerError):
    """The logon session is gone; what it started is out of reach."""


class LogonRefused(EnterpriseManagerError):
    """The account was refused. Never repeated: accounts lock after a few failed logons."""


class AddressUnusable(EnterpriseManagerError):
    """The address cannot be used as it is, so the run does not wait for it.

    It is another port or service, or TLS cannot be agreed on with it. Nothing was started.
    """


class CertificateRefused(AddressUnusable):
    """The server's certificate is not the one the plan trusts."""


class MalformedResponse(EnterpriseManagerError):
    """An answer that cannot be read, or one that says something impossible."""


class EmptyAnswer(MalformedResponse):
    """An answer without the body that is due; it may be read again."""


class ForeignAnswer(MalformedResponse):
    """A success that is no document of the service's own: a page, JSON, or other XML."""


class SimulatedServerEnded(OrchestratorError):
    """The process of a simulated server has ended by itself: nobody knows what it had counted."""

    def __init__(self, server: str, code: int) -> None:
        """`code` is that of the process; below 0: the signal that ended it."""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        super().__init__(f"the simulated server {server} has ended ({how}), with what it counted")


class CannotMerge(OrchestratorError):
    """Reports that do not belong together, or are not what their runs wrote."""


class ForbiddenAction(EnterpriseManagerError):
    """Our own allow-list stopped the request before it was sent."""
