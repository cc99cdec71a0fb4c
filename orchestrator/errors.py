"""Errors, arranged by what the caller may do next.

    OrchestratorError
    ├── PlanError                 fix the plan; nothing was sent
    ├── ExpectationBroken         the inventory is not what the plan expects; nothing was mounted
    ├── CredentialError           a secret reference cannot be resolved
    ├── IllegalTransition         a bug of ours: an event that the table does not allow
    ├── RunNotFound               the journal has no such run: name another
    ├── JournalError              stop: later steps could not be recovered
    │   └── JournalDamaged        the record named is not what was written
    ├── CannotResume              nothing to go on with, or not with this plan; nothing was sent
    ├── KeyUnusable               a key file for signing or checking: name another
    ├── RunLocked                 another process runs this plan
    ├── FileNotSaved              one file cannot be written on this machine; nothing else fails
    ├── ServerUnusable            this Enterprise Manager cannot be used in this run
    └── EnterpriseManagerError    one server, one request
        ├── RequestNotSent        nothing reached the server: repeat freely
        │   └── HostExhausted     this machine lacks something: wait, and blame no server
        ├── RequestRefused        answered, nothing was started
        │   ├── NotFound          no such thing (404, or 500 for a task of another session)
        │   │   └── PageNotFound  so says whoever stands in front of the service: ask the service
        │   ├── Unreadable        only this answer of a server that is well cannot be read
        │   ├── AccessDenied      the role does not allow it (403)
        │   ├── GuestUnreadable   about this path of a guest nothing can be read; go on elsewhere
        │   └── ServiceBusy       overload or maintenance: repeat after a pause
        ├── ResponseLost          it may have taken effect: in doubt
        ├── SessionLost           the logon session is gone; its tasks and mounts are out of reach
        ├── LogonRefused          bad credentials or no role: never repeated
        ├── CertificateRefused    the server is not the one the plan trusts: never repeated
        ├── MalformedResponse     an answer that cannot be read
        └── ForbiddenAction       our own allow-list stopped the request; nothing was sent

Data sits in attributes. Messages hold no token, no password and no unbounded body.
"""

from __future__ import annotations


class OrchestratorError(Exception):
    """Base of every error that this program raises on purpose."""


class PlanError(OrchestratorError):
    """The plan cannot be used; `problems` holds every reason found in one pass.

    Each problem is an object whose `str()` is `file:line:column: message` followed by
    the line and a caret.
    """

    def __init__(self, problems: tuple[object, ...]) -> None:
        """Keep `problems`, in the order of the file."""
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class ExpectationBroken(OrchestratorError):
    """A selector's `expect` guard, or the one-VM-once rule, does not hold for the inventory."""


class CredentialError(OrchestratorError):
    """A secret reference of the plan cannot be resolved; the message never holds the value."""


class IllegalTransition(OrchestratorError):
    """An event arrived that the transition table does not allow in this phase."""


class JournalError(OrchestratorError):
    """The journal cannot be read or written; the run must stop."""


class JournalDamaged(JournalError):
    """A stored record is not what was written; the message names it."""


class RunNotFound(OrchestratorError):
    """The journal holds no run of that name, or several."""


class CannotResume(OrchestratorError):
    """There is nothing to go on with, or not with this plan; nothing was sent."""


class KeyUnusable(OrchestratorError):
    """A file is no key that can sign, or check signatures; the message holds nothing of it."""


class RunLocked(OrchestratorError):
    """Another process holds the lock of this plan."""


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
    """This machine has no file descriptor (or the like) left; it says nothing of the server."""


class RequestRefused(EnterpriseManagerError):
    """The server answered and started nothing."""

    @property
    def is_internal(self) -> bool:
        """True if something broke inside the server (500): for now, or for this request always."""
        return self.status == 500


class NotFound(RequestRefused):
    """The named thing does not exist, or not in this logon session."""

    is_internal = False


class PageNotFound(NotFound):
    """A 404 without the service's own words: while it is stopped, the system answers so."""


class Unreadable(RequestRefused):
    """An answer that cannot be read, from a server that is well: it is about this one request."""

    is_internal = True


class AccessDenied(RequestRefused):
    """The account's role or scope does not allow this."""


class GuestUnreadable(RequestRefused):
    """What the server says of a guest's path cannot be read, though it answers well otherwise."""


class ServiceBusy(RequestRefused):
    """The server is overloaded or in maintenance; `retry_after_s` is its wish, if it named one."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        server: str = "",
        request: str = "",
        status: int | None = None,
        words: str | None = None,
    ) -> None:
        """Like any refusal, with the pause in seconds that the server asked for."""
        super().__init__(message, server=server, request=request, status=status, words=words)
        self.retry_after_s = retry_after_s


class ResponseLost(EnterpriseManagerError):
    """The request was (or may have been) sent and its answer is lost: in doubt."""


class SessionLost(EnterpriseManagerError):
    """The logon session is gone; what it started is out of reach."""


class LogonRefused(EnterpriseManagerError):
    """The account was refused. Never repeated: accounts lock after a few failed logons."""


class CertificateRefused(EnterpriseManagerError):
    """The server's certificate is not the one the plan trusts."""


class MalformedResponse(EnterpriseManagerError):
    """An answer that cannot be read, or one that says something impossible."""


class ForbiddenAction(EnterpriseManagerError):
    """Our own allow-list stopped the request before it was sent."""
