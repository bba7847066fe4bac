"""What a service answers, what it saw, and what is to go wrong in the sandbox."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

REQUEST_ID = "00000000-0000-0000-0000-000000000000"  # replaced by the ID of the request


class Answer(NamedTuple):
    status: int
    body: Any = b""  # bytes, or what is to be sent as JSON
    headers: Mapping[str, str] = MappingProxyType({})


def ecs_error(status: int, code: str, message: str = "The request was refused.") -> Answer:
    return Answer(status, {"RequestId": REQUEST_ID, "Code": code, "Message": message})


def with_request_id(answer: Answer) -> Answer:
    """The answer with an ID of its own, if it has one at all: an answer of a gateway has none."""
    if not (isinstance(answer.body, dict) and "RequestId" in answer.body):
        return answer
    return answer._replace(body={**answer.body, "RequestId": str(uuid.uuid4()).upper()})


LOST = Answer(0)  # The connection is lost.
HANGS = Answer(-1)  # No answer ever comes.
THROTTLED = ecs_error(400, "Throttling.User", "Request was denied due to user flow control.")
FORBIDDEN = ecs_error(403, "Forbidden.RAM", "User not authorized to operate on the specified resource.")
NO_IMAGES = Answer(200, {"RequestId": REQUEST_ID, "TotalCount": 0, "Images": {"Image": []}})
NO_SNAPSHOTS = Answer(200, {"RequestId": REQUEST_ID, "TotalCount": 0, "Snapshots": {"Snapshot": []}})
NOT_GZIP = Answer(200, b"damaged on the way", {"Content-Encoding": "gzip"})
NOT_JSON = Answer(200, b'{"damaged": "on the')
# ECS refuses a call with these, and carries it out when it comes again (aliyun/terraform-provider-alicloud#3437).
PASSING = {
    "OperationConflict": ecs_error(409, "OperationConflict"),
    "SystemBusy": ecs_error(400, "SystemBusy"),
    "ServiceUnavailable": ecs_error(400, "ServiceUnavailable"),
    "InternalError": ecs_error(400, "InternalError"),
    "SignatureNonceUsed": ecs_error(400, "SignatureNonceUsed", "Specified signature nonce was used already."),
    "408": Answer(408, b""),
}


class Call(NamedTuple):
    """A request as a service saw it: `what` is the path, `where` the host; for ECS the operation and the region.

    The status is 0 if it was not answered. `at` is when it came, by the sandbox's clock. `ids` are the images and
    snapshots that an ECS call names.
    """

    service: str
    what: str
    where: str
    status: int
    at: float
    ids: tuple[str, ...] = ()


class Refused(Exception):
    """An ECS operation is answered with an error code."""

    def __init__(self, status: int, code: str, message: str = "The request was refused.") -> None:
        super().__init__(code)
        self.answer = ecs_error(status, code, message)


@dataclass
class EcsFault:
    """What goes wrong with the calls of one ECS operation.

    `calls` says with which of them, counted from 1: `{2}` is the second, `range(1, 4)` the first three.
    """

    operation: str
    region: str = ""  # "" for all
    id: str = ""  # of an image or a snapshot that the call names, "" for all
    calls: Container[int] = range(1, sys.maxsize)
    answer: Answer | None = None  # sent instead of carrying the call out
    late: Answer | None = None  # sent after the call was carried out
    hidden: Collection[str] = ()  # images and snapshots that the call does not see
    cut: bool = False  # a listing holds half of its TotalCount
    count: int = 0

    def applies(self, operation: str, region: str, ids: Collection[str]) -> bool:
        """Whether this call goes wrong. Counts it."""
        if operation != self.operation or self.region not in ("", region) or (self.id and self.id not in ids):
            return False
        self.count += 1
        return self.count in self.calls


@dataclass
class WebFault:
    """What goes wrong with some requests to GitHub and the store, counted from 1: those whose URL ends so."""

    url: str
    answer: Answer
    calls: Container[int] = range(1, sys.maxsize)
    count: int = 0

    def applies(self, url: str) -> bool:
        """Whether this request goes wrong. Counts it."""
        if not url.endswith(self.url):
            return False
        self.count += 1
        return self.count in self.calls


@dataclass
class Faults:
    """What is to go wrong, or slowly. Rates are of all requests, drawn by `seed`."""

    seed: int = 0
    unavailable: float = 0.0  # 503 instead of carrying it out
    broken: float = 0.0  # 500 with a body in HTML, instead of carrying it out
    lost_before: float = 0.0  # connection lost, not carried out
    lost_after: float = 0.0  # carried out, connection lost
    damaged: float = 0.0  # carried out; the body is no gzip
    answers: dict[str, Answer] = field(default_factory=dict)  # by URL, or the end of one
    ecs: list[EcsFault] = field(default_factory=list)  # the first that applies gives the answer
    web: list[WebFault] = field(default_factory=list)  # the same
    lacking: set[tuple[str, str]] = field(default_factory=set)  # permissions, by region ("" for all) and operation
    dead_hosts: set[str] = field(default_factory=set)  # refused by the proxy
    latency: dict[str, float] = field(default_factory=dict)  # seconds; see latency_of_call and latency_of_connection
    calls_a_minute: int | None = None  # for each region and operation; more are throttled until the next minute
    commits_listed: int | None = None  # The list of commits ends after so many, with status 200.
    listing_lag: float = 0.0  # seconds that a deleted image stays listed
    ignore_missing: bool = False  # DeleteImage succeeds if there is no such image, as one sentence of its page says
    on_call: Callable[[Call], None] | None = None  # called when a request arrives, before it is carried out

    def latency_of_call(self, service: str, where: str) -> float:
        """By service, and by host or ECS region."""
        return self.latency.get(service, 0) + self.latency.get(where, 0)

    def latency_of_connection(self, region: str) -> float:
        """By ECS region; "connection" for all others."""
        return self.latency.get(region, self.latency.get("connection", 0))
