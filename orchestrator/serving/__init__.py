"""A run as a page in a browser, and as metrics: read only, and never in the run's way.

Events are folded into a `Board` where they are told, in microseconds. A ticker makes at most
two pictures a second of it and hands the newest to every listener without waiting for one: a
listener that does not read misses pictures, and in the end its connection. The page is one
document, one script and one style sheet, all from here; `guard` decides who may read them,
`doors` how many and for how long. Whatever fails in here is told and changes no result.
"""

from orchestrator.serving.address import LOOPBACK, Address, NotAnAddress, served_name
from orchestrator.serving.board import Board
from orchestrator.serving.showing import NotServed, Page, Showing
from orchestrator.serving.token import fresh_token, own_token

__all__ = [
    "LOOPBACK",
    "Address",
    "Board",
    "NotAnAddress",
    "NotServed",
    "Page",
    "Showing",
    "fresh_token",
    "own_token",
    "served_name",
]
