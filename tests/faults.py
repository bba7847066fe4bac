"""What a service answers, what it saw, and what is to go wrong in the sandbox."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from world import API_HOST, image_id

OPERATIONS = ["DescribeImages", "TagResources", "ModifyImageSharePermission", "DeleteImage"]  # of ECS
OPERATIONS += ["DescribeSnapshots", "DeleteSnapshot"]
REQUEST_ID = "00000000-0000-0000-0000-000000000000"  # replaced by the ID of the request; answers of gateways have none


class Answer(NamedTuple):
    status: int
    body: Any = b""  # bytes, or what is to be sent as JSON
    headers: Mapping[str, str] = MappingProxyType({})


def ecs_error(status: int, code: str, message: str = "The request was refused.") -> Answer:
    return Answer(status, {"RequestId": REQUEST_ID, "Code": code, "Message": message})


LOST = Answer(0)  # The connection is lost.
HANGS = Answer(-1)  # No answer ever comes.
UNAVAILABLE = Answer(503)
THROTTLED = ecs_error(400, "Throttling.User", "Request was denied due to user flow control.")
FORBIDDEN = ecs_error(403, "Forbidden.RAM", "User not authorized to operate on the specified resource.")
NO_IMAGES = Answer(200, {"RequestId": REQUEST_ID, "TotalCount": 0, "Images": {"Image": []}})
NO_SNAPSHOTS = Answer(200, {"RequestId": REQUEST_ID, "TotalCount": 0, "Snapshots": {"Snapshot": []}})
NOT_GZIP = Answer(200, b"damaged on the way", {"Content-Encoding": "gzip"})
NOT_JSON = Answer(200, b'{"damaged": "on the')
# ECS refuses a call with these, and carries it out when it comes again (aliyun/terraform-provider-alicloud#3437).
PASSING = [
    *(ecs_error(400, code) for code in ("SystemBusy", "ServiceUnavailable", "InternalError", "SignatureNonceUsed")),
    ecs_error(409, "OperationConflict"),
    Answer(408),
]
# What may come instead of the right answer
WRONG = [LOST, THROTTLED, FORBIDDEN, Answer(500, b"<html>"), Answer(200, b"[]"), NOT_GZIP, NOT_JSON]
# What may happen to any request: the answer, and whether it is sent after the request was carried out.
ACCIDENTS = [
    (UNAVAILABLE, False),
    (Answer(500, b"<html><body><h1>Internal Server Error</h1></body></html>"), False),
    (LOST, False),
    (LOST, True),
    (NOT_GZIP, True),
]


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
class Fault:
    """What goes wrong with some calls: of an ECS operation, or to a URL that contains this.

    `calls` says with which of them, counted from 1: `{2}` is the second, `range(1, 4)` the first three.
    """

    what: str
    answer: Answer | None = None  # sent instead of carrying the call out
    region: str = ""  # of ECS, "" for all
    id: str = ""  # of an image or a snapshot that the call names, "" for all
    calls: Container[int] = range(1, sys.maxsize)
    late: Answer | None = None  # sent after ECS has carried the call out
    when: Callable[[Collection[str]], object] = lambda ids: True  # asked with the IDs that the call names
    count: int = 0

    def applies(self, what: str, region: str = "", ids: Collection[str] = ()) -> bool:
        """Whether this call goes wrong. Counts it."""
        if self.what not in what or self.region not in ("", region) or (self.id and self.id not in ids):
            return False
        if not self.when(ids):
            return False
        self.count += 1
        return self.count in self.calls


@dataclass
class Faults:
    """What is to go wrong, or slowly."""

    failing: list[Fault] = field(default_factory=list)  # the first one that applies gives the answer
    accidents: float = 0.0  # the part of all requests to which one of ACCIDENTS happens, drawn by `seed`
    seed: int = 0
    dead_hosts: Collection[str] = ()  # refused by the proxy
    untrusted_hosts: Collection[str] = ()  # whose certificate is of an unknown CA
    misnamed_hosts: Collection[str] = ()  # whose certificate is for another host
    # Seconds that a call takes, by service, host or ECS region; a connection takes those of the region or "connection".
    latency: dict[str, float] = field(default_factory=dict)
    calls_a_minute: int | None = None  # for each region and operation; more are throttled until the next minute
    policy: Any = None  # of the account's key, in place of the README's
    commits_listed: int | None = None  # The list of commits ends after so many, with status 200.
    listing_lag: float = 0.0  # seconds that a deleted image stays listed
    leaving_rate: float | None = None  # so many deleted images leave the listing in a second, one after the other
    snapshot_lag: float = 0.0  # seconds until a snapshot is free after its image has left the listing
    untagged_shown_without_tags: bool = False  # as in old samples of the answer of DescribeSnapshots
    proxy_refusal: str = ""  # the status that the proxy answers instead of connecting
    ignore_missing: bool = False  # DeleteImage succeeds if there is no such image, as one sentence of its page says
    on_call: Callable[[Call], None] | None = None  # called when a request arrives, before it is carried out


# What sandbox.py --outage offers
OUTAGE_REGION = "us-east-1"
IN_USE = image_id("410.84.202112050307-0", OUTAGE_REGION)
SPENT = Answer(403, {"message": "API rate limit exceeded"}, {"X-RateLimit-Remaining": "0"})
OUTAGES = {
    "store unavailable": Fault("/meta.json", UNAVAILABLE),
    "store hangs": Fault("/meta.json", HANGS),
    "deletion unavailable": Fault("DeleteImage", UNAVAILABLE, OUTAGE_REGION),
    "deletion throttled": Fault("DeleteImage", THROTTLED, OUTAGE_REGION),
    "deletion denied": Fault("DeleteImage", FORBIDDEN, OUTAGE_REGION),
    "image in use": Fault("DeleteImage", ecs_error(403, "ImageUsingByInstance", "An instance uses it."), id=IN_USE),
    "GitHub's limit": Fault(API_HOST, SPENT),
}
