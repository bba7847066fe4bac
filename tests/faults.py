"""What a service answers, what it saw, and what is to go wrong in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple


class Answer(NamedTuple):
    status: int
    body: Any = b""  # bytes, or what is to be sent as JSON
    headers: Mapping[str, str] = MappingProxyType({})


class Call(NamedTuple):
    """A request as a service saw it: `what` is the path, `where` the host; for ECS the operation and the region.

    The status is 0 where the connection was lost; `at` is when it came, by the sandbox's clock.
    """

    service: str
    what: str
    where: str
    status: int
    at: float


class Refused(Exception):
    """An ECS operation is answered by an error code."""

    def __init__(self, status: int, code: str, message: str = "The request was refused.") -> None:
        super().__init__(code)
        body = {"RequestId": "00000000-0000-0000-0000-000000000000", "Code": code, "Message": message}
        self.answer = Answer(status, body)


@dataclass
class Faults:
    """What is to go wrong, or slowly. Rates are of all requests, drawn by `seed`."""

    seed: int = 0
    unavailable: float = 0.0  # 503 instead of carrying it out
    broken: float = 0.0  # 500 with a body in HTML, instead of carrying it out
    lost_before: float = 0.0  # connection lost, not carried out
    lost_after: float = 0.0  # carried out, connection lost
    answers: dict[str, Answer] = field(default_factory=dict)  # by URL, of GitHub and the store
    refusals: dict[tuple[str, str], Refused] = field(default_factory=dict)  # by operation and image ID, "" for all
    dead_hosts: set[str] = field(default_factory=set)  # refused by the proxy
    latency: dict[str, float] = field(default_factory=dict)  # seconds by service, by ECS region or by "connection"
    calls_a_minute: int | None = None  # for each region and operation; more are throttled until the next minute
    throttled_operations: set[str] = field(default_factory=set)  # never carried out
    listing_lag: float = 0.0  # seconds that a deleted image stays listed
    lose_first_answer: set[str] = field(default_factory=set)  # of these operations; they are carried out
    cut_first_answer: set[str] = field(default_factory=set)  # half of it, of paths that end so
