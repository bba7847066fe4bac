#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["aliyun-python-sdk-core>=2.16,<3", "aliyun-python-sdk-ecs>=4.24,<5", "requests>=2.32,<3"]
# ///
"""Delete the RHCOS images on Alibaba Cloud (Aliyun) that never became an OpenShift bootimage.

Every build of Red Hat CoreOS uploaded an image to some 25 regions. A build is a bootimage if any version of
`data/data/coreos/rhcos.json` on the release's branch of openshift/installer names it. Bootimages are kept; the images
of all other builds are tagged `bootimage=false`, made private and deleted. A run has seven steps:

1. `list_commits`      lists the commits on the release's branch that touched rhcos.json (GitHub)
2. `find_bootimages`   reads these versions: the builds and images to keep, and where the release's builds are
3. `find_builds`       reads every builds.json of the release (RHCOS store)
4. `find_uploads`      reads the meta.json of each build: the images that it uploaded, by region
5. `Region`            looks at the images of a region, and decides (ECS)
6.                     tags, makes private and deletes them, until a look shows that they are gone
7. `save_record`       writes the results to deleted_images.json, for the next run

The record lists what each build uploaded; `deleted: false` is tried again by the next run:

    {"410.84.202112050307-0": [{"region": "us-east-1", "image": "m-2278ffe99a3b6169ae74", "deleted": true}]}

Documents, images and snapshots are worked off by one loop, `work_off`: look, act, and look again until each of them has
an answer or has failed. A round of it is a value, `Round`; how long it waits, and when there is no hope, is `Patience`.
Only `reason_to_keep` decides whether an image may be deleted. What a service does not show is not therefore gone: an
image counts as gone only if the same answer shows the region's witness, an image of the account that no run deletes.
"""

from __future__ import annotations

import os
import signal
import sys

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

if __name__ == "__main__":
    # The imports below take a quarter of a second. A signal then ends the process quietly, even as process 1 of a
    # container, to which the kernel delivers no signal that it does not handle. What nohup ignores stays ignored.
    for each in SIGNALS:
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, lambda signum, _: os._exit(128 + signum))
    if sys.version_info < (3, 9):  # noqa: UP036
        sys.exit(f"main.py: error: this is Python {sys.version.split()[0]}: install Python 3.9 or later")

import argparse
import base64
import contextlib
import errno
import fcntl
import io
import itertools
import json
import logging
import logging.handlers
import random
import re
import shutil
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import partial
from queue import SimpleQueue
from types import FrameType, MappingProxyType
from typing import IO, Any, Generic, NamedTuple, TypeVar
from urllib.parse import unquote

try:
    import requests
    from aliyunsdkcore.acs_exception.exceptions import ClientException, ServerException
    from aliyunsdkcore.client import AcsClient
    from aliyunsdkcore.http import protocol_type
    from aliyunsdkecs.request.v20140526.DeleteImageRequest import DeleteImageRequest
    from aliyunsdkecs.request.v20140526.DeleteSnapshotRequest import DeleteSnapshotRequest
    from aliyunsdkecs.request.v20140526.DescribeImagesRequest import DescribeImagesRequest
    from aliyunsdkecs.request.v20140526.DescribeSnapshotsRequest import DescribeSnapshotsRequest
    from aliyunsdkecs.request.v20140526.ModifyImageSharePermissionRequest import ModifyImageSharePermissionRequest
    from aliyunsdkecs.request.v20140526.TagResourcesRequest import TagResourcesRequest
    from requests.adapters import HTTPAdapter
    from requests.exceptions import ChunkedEncodingError, ContentDecodingError
    from requests.utils import get_environ_proxies
except ImportError as error:
    sys.exit(f"main.py: error: {error}: install the packages of requirements.txt (pip install -r requirements.txt)")

GITHUB_API = "https://api.github.com/repos/openshift/installer"
GITHUB_RAW = "https://raw.githubusercontent.com/openshift/installer"
STREAM_METADATA = "data/data/coreos/rhcos.json"
COMMITS_PER_PAGE = 100  # the most that GitHub sends
# The commit that brought the file to this path: the oldest one in the list of every release branch.
OLDEST_COMMIT = "61605bdcac8d24dc380cfe27e8d29678e0ffdc38"
STORE = "https://rhcos.mirror.openshift.com/art/storage"

# The directories of the store in which the builds of 4.10 to 4.18 were made, by `urls.rhcos_release_base` in the
# group.yml of openshift-eng/ocp-build-data. Each release has some of them, and rhcos.json does not name them all.
USUAL_DIRECTORIES = (
    "releases/rhcos-{release}",
    "releases/rhcos-{release}-aarch64",
    "prod/streams/{release}/builds",
    "prod/streams/{release}-9.2/builds",
    "prod/streams/{release}-9.4/builds",
)
ECS_ARCHITECTURES = ("x86_64", "aarch64")  # that ECS offers

# The vendor closed these regions on that day, with all that was in them (The Register, 2024-07-01). `cn-nanjing` and
# `cn-fuzhou` are closing; no date is published.
CLOSED_REGIONS = {"ap-south-1": "2024-07-15", "ap-southeast-2": "2024-09-30"}

# A build may become a bootimage weeks later: over 66 bumps (4.10 to 4.18) the lag was 1 day (median), 16 days (most).
YOUNG = timedelta(days=30)

WEB_THREADS = 16
REGION_THREADS = 4  # in each region
MOST_REGIONS = 40  # more than Alibaba Cloud has

DESCRIBE_LIMIT = 100  # DescribeImages and DescribeSnapshots: the most IDs, and the largest page
LOOK_LIMIT = DESCRIBE_LIMIT - 1  # and the witness
TAG_LIMIT = 50  # TagResources: the most IDs
# Without Status, DescribeImages leaves out every image that is not Available.
EVERY_STATUS = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"
WITHOUT_DISKS = ("Creating", "Waiting", "CreateFailed")  # An image in these need not have any.
MARK = "rhcos-aliyun-pruner"  # the key of the tag of snapshots behind deleted images; its value is the release

LOOK_SECONDS = 60  # Make no change on an older look: somebody may have pinned the image since.

CONNECT_TIMEOUT = 10  # seconds
WEB_TIMEOUT = 20  # seconds without a byte
ECS_TIMEOUT = 40  # seconds; the SDK's own table grants DescribeImages 38 and DeleteImage 36

# There is no hope after so much without an answer; see Patience.
LOST_ROUNDS = 3
MOST_LOST = 60.0  # seconds
MOST_THROTTLED = 900.0  # seconds; the service says when the next call is allowed
MOST_HUNG = 300.0  # seconds
MOST_DENIED = 6  # rounds
LONGEST_PAUSE = 5.0  # seconds
CONFIRM_PAUSE = 10.0  # seconds
MOST_LISTED = 300.0  # seconds; a deleted image can stay in the listing for minutes

PROGRESS_SECONDS = 30
STATUS_SECONDS = 0.5  # between two updates of the status line on a terminal
MOST_NAMES = 10  # of images or builds in one line
FAREWELL_SECONDS = 1  # The process ends even if its last line cannot be written.
LOCK_SECONDS = 2

SECRETS = ("ALIYUN_ACCESS_KEY_ID", "ALIYUN_ACCESS_KEY_SECRET", "GITHUB_TOKEN")
SHORTEST_SECRET = 8  # characters
SHORTEST_REDACTED = 4  # characters; a shorter password cannot be redacted without garbling the log
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
# urllib3 would take what follows an unencoded @, #, / or \ in a password as the host, and ask the DNS for it.
PROXY = re.compile(
    r"(https?://([^\s@/?#:\\\[\]]+(:[^\s@/?#:\\\[\]]*)?@)?)?"
    r"([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?"
)

# Error codes of https://api.alibabacloud.com/document/Ecs/2014-05-26/errorCode
CREDENTIALS_REFUSED = re.compile(
    r"InvalidAccessKeyId(\..+)?|InvalidAccessKeySecret|SignatureDoesNotMatch|IncompleteSignature"
    r"|Forbidden(\.AccessKey|\.AccessKeyDisabled|\.RiskControl|\.UserVerification)?"
    r"|NoEnabledAccessKey|InvalidSecurityToken.*|MissingSecurityToken|InvalidTimeStamp\.Expired"
)
PERMISSION_LACKING = re.compile(r"Forbidden\.RAM|Forbidden\.NotSupportRAM|NoPermission.*")
# These pass, with whatever status (aliyun/terraform-provider-alicloud#3437, aliyun/alibaba-cloud-sdk-go#39).
PASSING = re.compile(r"SignatureNonceUsed|OperationConflict|SystemBusy|ServiceUnavailable.*|InternalError")

ABSENT = ("403", "404")  # what the store answers for what it does not have

# What requests says where it does not help to try again, and what to do
REMEDIES = {
    "certificate has expired|not yet valid": "check this machine's clock; if it is right, the service is to blame",
    "VERIFY_FAILED.*mismatch": "another server answers for this host: check HTTPS_PROXY and the DNS",
    "Authority Key Identifier": "Python no longer accepts the form of a CA certificate in {ca}: have it issued anew",
    "VERIFY_FAILED": "it was verified with {ca}: set REQUESTS_CA_BUNDLE, or ALIBABA_CLOUD_CA_BUNDLE for Alibaba Cloud, "
    "to a file with the right CA",
    r"TLS CA certificate|\[X509": "check {ca}, and the variables REQUESTS_CA_BUNDLE and ALIBABA_CLOUD_CA_BUNDLE",
    "Tunnel connection failed: 4(?!08|29)": "the proxy refuses that: check HTTPS_PROXY, and what the proxy allows",
}

# Foreign data becomes part of URLs, of host names and of comma-separated lists: only safe characters are accepted.
BUILD_ID = re.compile(r"[0-9]+\.[0-9]+\.([0-9]{12})-[0-9]+")
REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
IMAGE_ID = re.compile(r"[A-Za-z0-9_-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
# In rhcos.json, the location of an artifact: DIRECTORY/BUILD/ARCHITECTURE/FILE
ARTIFACT = re.compile(r'/art/storage/([A-Za-z0-9._/-]+)/([^/"]+)/([^/"]+)/[^/"]+"')

# The list that should name the images of a build
LIST_META = "the meta.json of its build does not list it"
LIST_RECORD = "the record does not list it; a run with a new --filename reads the meta.json of its build"

# What is left
LEFT_UNLISTED = "images that no list names, kept"
LEFT_MARKED = "snapshots marked, still billed (a run with --delete-snapshots deletes them)"
LEFT_STAYING = "snapshots marked, but behind images that stay"
LEFT_BY_RUN = "snapshots that a run would leave, too, still billed"
LEFT_UNMARKED = "snapshots left without a mark, still billed (the log names them)"

# Reasons to keep an image, or not to look for images of a build
BOOTIMAGE = "bootimage"
NO_DATE = "no date in the build ID"
OTHER_RELEASE = "build of another release"
TOO_YOUNG = f"build younger than {YOUNG.days} days"
PINNED = "pinned by its tag bootimage=true"
NO_FRESH_ANSWER = f"no answer was younger than {LOOK_SECONDS} seconds"
NOT_LISTED = "not listed, and no image in this region shows that listings are complete"

Record = dict[str, list[dict[str, Any]]]
Builds = dict[str, dict[str, bool]]  # the URLs of each build's meta.json, and whether it is a tombstone there
Uploads = dict[str, list["Image"]]  # the images that each build uploaded
Item = TypeVar("Item", bound=Hashable)
Answer = TypeVar("Answer")
Value = TypeVar("Value")

log = logging.getLogger("rhcos-aliyun-pruner")
image_log = log.getChild("images")  # a line for each image and snapshot: in the log file, but not on a terminal


@dataclass(frozen=True)
class Image:
    """An image as listed in rhcos.json, meta.json or the record, and the build that lists it, for messages."""

    region: str
    id: str
    build: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.region} {self.id}" + (f" ({self.build})" if self.build else "")


class Seen(NamedTuple):
    """An image as the cloud shows it."""

    own: bool
    public: bool
    in_use: bool
    pinned: bool
    tag: str  # the value of its tag `bootimage`, or an empty string
    name: str
    snapshots: tuple[str, ...]  # IDs
    complete: bool  # Its disks are shown if it must have some.


class SeenSnapshot(NamedTuple):
    """A snapshot as the cloud shows it."""

    reason_to_keep: str  # or an empty string
    mark: str  # the release whose run marked it, or an empty string


@dataclass(frozen=True)
class Look(Generic[Answer]):
    """An answer about images or snapshots: those that are there, by ID, and when it was asked for."""

    seen: dict[str, Answer]
    at: tuple[float, float]

    def is_fresh(self) -> bool:
        """Whether a change may rest on it."""
        return all(0 <= now - then <= LOOK_SECONDS for now, then in zip(read_clocks(), self.at))


def read_clocks() -> tuple[float, float]:
    """Seconds by a clock that goes on while the machine sleeps, and by one that nobody can set."""
    return time.time(), time.monotonic()


class Release(NamedTuple):
    """What a run knows about the release."""

    name: str  # such as 4.10
    bootimages: frozenset[str]  # the builds that any version of rhcos.json names
    images: dict[str, Image]  # the images that rhcos.json names or these builds uploaded, by ID
    known: dict[Image, Image]  # the images that any list names, the record included
    builds: Mapping[str, Mapping[str, bool]] = MappingProxyType({})  # every build in a builds.json; see Builds
    read: Mapping[str, str] = MappingProxyType({})  # the builds whose images are known, and by which list


class Result(Enum):
    TO_TAG = "to tag"
    TO_DELETE = "to delete"
    DELETED = "deleted"
    GONE = "already gone"
    KEPT = "kept"
    FAILED = "failed"


NOT_THERE = (Result.DELETED, Result.GONE)


class Outcome(NamedTuple):
    """The result for an image, with the reason if there is one, and how the cloud showed it."""

    result: Result
    reason: str = ""
    seen: Seen | None = None


class SnapshotOutcome(NamedTuple):
    """The result for a snapshot, with the reason if there is one."""

    result: Result
    reason: str = ""


class OutsideError(Exception):
    """A service refused a call, or sent an unexpected answer. `code` is its error code or HTTP status, if any.

    The message says what happened and what to do.
    """

    remedy = ""

    def __init__(self, message: str, code: str = "", seconds: float = 0.0, remedy: str = "") -> None:
        remedy = remedy or self.remedy
        super().__init__(f"{message}: {remedy}" if remedy else message)
        self.code = code
        self.seconds = seconds


class Refusal(OutsideError):
    """The run ends before it changes anything."""


class DeniedError(OutsideError):
    """The credentials were refused, or they lack the permission for this, or a certificate cannot be verified."""


class PassingError(OutsideError):
    """The call may succeed later."""

    remedy = "try again later"


class LostError(PassingError):
    """After `seconds` there was no usable answer: the call may or may not have been carried out."""


class ThrottledError(PassingError):
    """Too many calls; the next one is allowed in `seconds`."""


@dataclass(frozen=True)
class Round(Generic[Item, Answer]):
    """What came of a round of calls, or of a whole loop of them. What was not tried is in none of these."""

    answers: dict[Item, Answer] = field(default_factory=dict)
    failed: dict[Item, OutsideError] = field(default_factory=dict)  # for good
    again: dict[Item, OutsideError] = field(default_factory=dict)  # may succeed later
    hopeless: OutsideError | None = None  # why no other item has a chance for now


Work = Callable[[list[Item]], Round[Item, Answer]]  # of one batch; see work_off


# The loop


class Progress:
    """What a person asks of a run under way: how far it is, what failed, who is throttled, how long it has taken."""

    def __init__(self) -> None:
        self.run_started = time.monotonic()
        self.throttled: dict[str, float] = {}  # by region, in seconds since the epoch
        self.failed: Counter[str] = Counter()  # by region
        self.counting = threading.Lock()
        self.counts: Counter[str] = Counter()  # done, total; images deleted; snapshots, and those of them swept
        self.begin("starting", 0)

    def begin(self, what: str, total: int) -> None:
        self.what = what
        self.counts["done"], self.counts["total"] = 0, total

    def count(self, **numbers: int) -> None:
        with self.counting:
            self.counts.update(numbers)

    def elapsed(self) -> timedelta:
        return timedelta(seconds=round(time.monotonic() - self.run_started))

    def __str__(self) -> str:
        total, snapshots = self.counts["total"], self.counts["snapshots"]
        parts = [f"{self.what} {self.counts['done']:,}" + f" of {total:,}" * bool(total)]
        if snapshots:
            parts.append(f"snapshots {self.counts['swept']:,} of {snapshots:,}")
        failed = dict(self.failed)
        if failed:
            where = next(iter(failed)) if len(failed) == 1 else f"{len(failed)} regions"
            parts.append(f"failed {sum(failed.values()):,} ({where})")
        waiting = {region: until for region, until in list(self.throttled.items()) if until > time.time()}
        if waiting:
            until = datetime.fromtimestamp(max(waiting.values())).strftime("%H:%M:%S")
            who = next(iter(waiting)) if len(waiting) == 1 else f"{len(waiting)} regions"
            parts.append(f"{who} throttled until {until}")
        return ", ".join([*parts, str(self.elapsed())])


progress = Progress()


@dataclass
class Patience:
    """Waits between the rounds of a loop, and knows when there is no hope.

    With an answer there is hope again, and only throttling makes it wait. All loops over a region share one, so that an
    outage is not waited for again in each: while it lasts, each has one round.
    """

    region: str = ""
    started: float = field(default_factory=lambda: time.monotonic())
    lost_rounds: int = 0  # in a row
    lost_since: float = 0.0
    throttled_since: float | None = None
    hung: float = 0.0  # seconds of waiting for answers that did not come

    def wait(self, answered: bool, errors: Collection[OutsideError], seconds: float) -> bool:
        """Wait for as long as the errors of a round of so many seconds ask for; False if there is no hope any more."""
        now = time.monotonic()
        hung = min(sum(error.seconds for error in errors if isinstance(error, LostError)), seconds)
        throttled = max((error.seconds for error in errors if isinstance(error, ThrottledError)), default=0.0)
        self.hung += hung
        if answered or throttled:
            self.lost_rounds = 0
            self.throttled_since = None if answered else self.throttled_since or now - seconds
        elif any(isinstance(error, LostError) for error in errors):
            self.lost_since = self.lost_since if self.lost_rounds else now - seconds
            self.lost_rounds += 1
        is_lost = self.lost_rounds >= LOST_ROUNDS and now - self.lost_since >= MOST_LOST
        is_throttled = self.throttled_since is not None and now - self.throttled_since >= MOST_THROTTLED
        if is_lost or is_throttled or (hung >= 1 and self.hung >= max(MOST_HUNG, (now - self.started) / 2)):
            return False
        if throttled:
            progress.throttled[self.region] = time.time() + throttled
            time.sleep(throttled)
        elif not answered:
            time.sleep(min(LONGEST_PAUSE, 0.25 * 2**self.lost_rounds) * random.uniform(0.5, 1))
        return True


def work_off(items: Iterable[Item], work: Work[Item, Answer], size: int, patience: Patience) -> Round[Item, Answer]:
    """Work in batches until each item has an answer or has failed. Raises nothing: what has no hope has failed, too.

    If there was no hope for any item that is left of a batch, a call for all of them has failed, and nobody is to blame
    yet: the next batch is a quarter of that, and a batch with an answer is followed by one of four times its size. An
    item whose call was lost or denied goes to the end of the queue; if only such ones are left, patience ends. If all
    of several calls were denied, the same items come first instead: the next look shows whether somebody has pinned
    them. If they are denied again, there is no hope for the rest.
    """
    queue, most, denials = deque(items), size, 0
    total: Round[Item, Answer] = Round()
    suspects: set[Item] = set()  # all that were tried in the last round, if they were denied
    while queue:
        batch = [queue.popleft() for _ in range(min(most, len(queue)))]
        started = time.monotonic()
        try:
            round = work(batch)
        except Exception as raised:
            round = Round(hopeless=as_expected(raised))
        left = [item for item in batch if item not in round.answers and item not in round.failed]
        if round.hopeless and not round.again:
            most = most if isinstance(round.hopeless, ThrottledError) else max(1, len(left) // 4)
            round = round if len(left) > 1 else blame(round, round.hopeless, left)
        answered = not round.hopeless and bool(round.answers or round.failed)
        most = min(4 * most, size) if answered else most
        errors = list(round.again.values()) or [round.hopeless or LostError(NO_FRESH_ANSWER)]
        is_denied = not answered and any(isinstance(error, DeniedError) for error in errors)
        denials = denials + 1 if is_denied else 0
        total.answers.update(round.answers)
        total.failed.update(round.failed)
        again = [item for item in left if item in round.again]
        untried = [item for item in left if item not in round.again and item not in round.failed]
        before, suspects = suspects, set(again) if is_denied and len(again) > 1 else set()
        queue.extendleft(reversed(again + untried if suspects else untried))
        queue.extend([] if suspects else again)
        is_final = isinstance(round.hopeless, Refusal) or denials >= MOST_DENIED or (suspects and suspects <= before)
        if is_final or not patience.wait(answered, errors, time.monotonic() - started):
            reason = round.hopeless or errors[-1]
            total.failed.update(dict.fromkeys(queue, reason))
            return replace(total, hopeless=reason)
    return total


def blame(round: Round[Item, Answer], error: OutsideError, alone: Collection[Item]) -> Round[Item, Answer]:
    """What comes of a round if the call for all that is left of its batch failed, which is one item or none."""
    if isinstance(error, (PassingError, DeniedError, Refusal)):
        return replace(round, again=dict.fromkeys(alone, error))
    return replace(round, failed=round.failed | dict.fromkeys(alone, error), hopeless=None)


def try_each(function: Callable[[Item], Answer | None], threads: int, items: Sequence[Item]) -> Round[Item, Answer]:
    """Call function with items side by side, for `work_off`; an item for which it returns None has no answer yet.

    Ends early when the others would meet the same: at a throttled call, or if more were lost or denied than answered.
    If it returns early at a Refusal, other calls may still hang.
    """
    done: Round[Item, Answer] = Round()
    refusals: list[OutsideError] = []
    ended = threading.Event()

    def attempt(item: Item) -> None:
        if ended.is_set():
            return
        try:
            answer = function(item)
            if answer is not None:
                done.answers[item] = answer
        except Refusal as error:
            refusals.append(error)
        except (PassingError, DeniedError) as error:
            done.again[item] = error
        except Exception as error:
            done.failed[item] = as_expected(error)
        throttled = isinstance(done.again.get(item), ThrottledError)
        if refusals or throttled or len(done.again) > max(1, len(done.answers) + len(done.failed)):
            ended.set()

    for _ in call_each(attempt, threads, items):
        if refusals:
            return Round(hopeless=refusals[0])
    errors = [] if done.answers or done.failed else list(done.again.values())
    passing = [error for error in errors if isinstance(error, PassingError)]
    # One denied call says nothing of other items.
    return replace(done, hopeless=next(iter(passing or errors[1:]), None))


def call_each(function: Callable[[Value], Answer], threads: int, items: Collection[Value]) -> Iterator[Answer]:
    """Call a function that raises nothing with each item in so many threads; yields what it returns as it comes.

    If the machine has fewer threads left, those that started do it all, or this one. Not a ThreadPoolExecutor: that
    can queue an item, fail to start a thread for it, and call the function all the same.
    """
    waiting = deque(items)
    results: SimpleQueue[Answer] = SimpleQueue()

    def work() -> None:
        while waiting:
            try:
                item = waiting.popleft()
            except IndexError:  # Another thread has taken the last one.
                break
            results.put(function(item))

    try:
        for _ in range(min(threads, len(items))):
            threading.Thread(target=work, daemon=True).start()
    except RuntimeError:  # no more threads
        work()
    for _ in items:
        yield results.get()


def insist(call: Callable[[], Answer], patience: Patience) -> Answer:
    """Call until there is an answer. Raises the error of a refusal, or of lost answers when there is no hope."""
    while True:
        started = time.monotonic()
        try:
            answer = call()
        except PassingError as error:
            if not patience.wait(False, [error], time.monotonic() - started):
                raise
        else:
            patience.wait(True, [], 0.0)
            return answer


def as_expected(error: Exception) -> OutsideError:
    """The error itself, or one that says that no part of this program expects it."""
    if isinstance(error, OutsideError):
        return error
    log.debug("unexpected", exc_info=error)
    return OutsideError(f"unexpected {one_line(repr(error))}: please report it, with the log of a run with --debug")


def read_pages(fetch: Callable[[int], dict[str, Answer]], size: int) -> dict[str, Answer]:
    """Read all pages of a listing, until one is not full or has no news: a listing can shift between two pages."""
    listed: dict[str, Answer] = {}
    for number in itertools.count(1):
        page = fetch(number)
        is_last = len(page) < size or page.keys() <= listed.keys()
        listed.update(page)
        if is_last:
            break
    return listed


def list_all(
    fetch: Callable[[int], Look[Answer]], patience: Patience, is_whole: Callable[[dict[str, Answer]], bool]
) -> dict[str, Answer]:
    """All images or snapshots of a listing, by ID. One that is not whole is asked for again for a minute."""
    again = Patience()
    while True:
        listed = read_pages(lambda page: insist(lambda: fetch(page), patience).seen, DESCRIBE_LIMIT)
        if is_whole(listed) or not again.wait(False, [LostError("not whole")], 0.0):
            return listed


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# Foreign data


def as_list(value: object) -> list[Any]:
    """The value; raises TypeError unless it is a list."""
    if not isinstance(value, list):
        raise TypeError(f"{excerpt(value)} is not a list")
    return value


def parse_image(build: str, region: object, image: object) -> Image:
    """Make an Image of foreign data; raises ValueError unless region and ID look like those of ECS."""
    if not (isinstance(region, str) and REGION.fullmatch(region)):
        raise ValueError(f"{excerpt(region)} is not a region")
    if not (isinstance(image, str) and IMAGE_ID.fullmatch(image)):
        raise ValueError(f"{excerpt(image)} is not an image ID")
    return Image(region, image, build)


def parse_tags(listed: Any) -> dict[str, str]:
    """The tags of an image or a snapshot. ECS holds keys unique without regard to case, so they are in lower case."""
    return {str(tag["TagKey"]).casefold(): str(tag["TagValue"]) for tag in listed["Tags"]["Tag"]}


def is_pinned(tags: dict[str, str]) -> bool:
    return tags.get("bootimage", "").casefold() == "true"


def parse_seen(listed: Any) -> Seen:
    """What DescribeImages says of an image; raises KeyError if it says nothing of tags."""
    tags = parse_tags(listed)
    disks = listed.get("DiskDeviceMappings", {}).get("DiskDeviceMapping", [])
    snapshots = tuple(str(disk["SnapshotId"]) for disk in disks if disk.get("SnapshotId"))
    return Seen(
        own=listed.get("ImageOwnerAlias") == "self",
        public=bool(listed.get("IsPublic")),
        in_use=listed.get("Usage") != "none",
        complete=0 < len(disks) == len(snapshots) or listed.get("Status") in WITHOUT_DISKS,
        pinned=is_pinned(tags),
        tag=tags.get("bootimage", "").casefold(),
        name=str(listed.get("ImageName", "")),
        snapshots=snapshots,
    )


def parse_seen_snapshot(listed: Any) -> SeenSnapshot:
    """What DescribeSnapshots says of a snapshot. Old samples of its answer show no Tags where there are none."""
    if "Tags" not in listed:
        return SeenSnapshot("shown without tags", "")
    tags = parse_tags(listed)
    return SeenSnapshot(PINNED if is_pinned(tags) else "", tags.get(MARK, ""))


def one_line(text: object, most: int = 300) -> str:
    """Foreign text for a message: without line breaks, and redacted before it is cut."""
    line = redact(" ".join(str(text).split()))
    return line if len(line) <= most else f"{line[:most]}..."


def excerpt(value: object) -> str:
    """The beginning of foreign data, for a message."""
    return one_line(ascii(value), 100)


def redact(text: str) -> str:
    """Redact credentials, which API errors and URLs contain, and those of a proxy."""
    secrets = {os.environ.get(name, "").strip(): name for name in SECRETS}
    for name in PROXIES:
        quoted = os.environ.get(name, "").rpartition("@")[0].rpartition("/")[2]
        for userinfo in (quoted, unquote(quoted)):
            # The user alone is no secret, unless there is no password.
            secrets.update(dict.fromkeys((userinfo, userinfo.partition(":")[2]), name))
            for encoding in ("latin-1", "utf-8"):  # requests takes the first one
                secrets[base64.b64encode(userinfo.encode(encoding, "replace")).decode()] = name
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, f"<{secrets[secret]}>") if len(secret) >= SHORTEST_REDACTED else text
    return re.sub(r"(Signature=|Signature%3D)[^&\s'\")]+", r"\1<redacted>", text)


def words_of(error: object) -> str:
    """Why a call failed: the innermost words of an error that requests or the SDK has wrapped into several others."""
    text = str(error)
    cause = text.partition("(Caused by ")[2] or (text if text.startswith("(") else "")
    quoted = re.findall(r"\"([^\"]+)\"|'([^']+)'", cause)
    return one_line(re.sub(r"^.*(Pool|Connection)\(.*?\): |^<.*?>: ", "", "".join(quoted[-1]) if quoted else text))


def explain_failure(what: str, error: object, ca: object, seconds: float) -> OutsideError:
    """The error of a call that requests could not make, with what to do; `ca` is a file or folder, or True."""
    text, words = str(error), f"{what}: {words_of(error)}"
    for pattern, remedy in REMEDIES.items():
        if re.search(pattern, text):
            used = "the CA certificates of the package certifi" if ca is True else ca
            return DeniedError(words, remedy=remedy.format(ca=used))
    is_of_proxy = "ProxyError" in text and "Tunnel" not in text
    return LostError(words, seconds=seconds, remedy="check HTTPS_PROXY, or try again later" if is_of_proxy else "")


# The services


class Environment(NamedTuple):
    """The environment variables that a run uses, checked."""

    key_id: str
    secret: str
    github_token: str
    web_ca: str | bool  # a file or folder of CA certificates, or True for those of certifi
    ecs_ca: str | bool


def read_environment() -> Environment:
    """Read and check the environment variables; no message contains a value but that of a CA variable."""
    missing = [name for name in SECRETS[:2] if not os.environ.get(name, "").strip()]
    if missing:
        raise Refusal(f"{' and '.join(missing)} not set, or empty: set the environment variables of the access key")
    used = [name for name in PROXIES if os.environ.get(name)]
    for name in [name for name in used if name.lower() == "https_proxy"] or used:  # ALL_PROXY in place of it
        if not (os.environ[name].isascii() and PROXY.fullmatch(os.environ[name])):
            words = f"the environment variable {name} is not of the form http://user:password@host:port"
            raise Refusal(f"{words}: correct it; write @ : / # ? \\ in user and password as %40 %3A %2F %23 %3F %5C")
    key_id, secret, token = map(read_secret, SECRETS)
    ca = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True  # "" would switch it off.
    return Environment(key_id, secret, token, ca, os.environ.get("ALIBABA_CLOUD_CA_BUNDLE") or ca)


def read_secret(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if value.strip("'\"") != value:
        raise Refusal(f"the environment variable {name} contains quotation marks around its value: remove them")
    if value and not (re.fullmatch(r"[!-~]+", value) and len(value) >= SHORTEST_SECRET):
        raise Refusal(f"the environment variable {name} is malformed: it is too short, or contains unusual characters")
    return value


class Adapter(HTTPAdapter):
    """Keeps connections alive until it is closed. By itself, urllib3 would close them only when nothing refers to their
    pool any more, and the error of a failed call does."""

    def close(self) -> None:
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for pool in map(manager.pools.get, manager.pools.keys()):
                if pool:  # No other thread has closed it meanwhile.
                    pool.close()
        super().close()


def new_session(ca: str | bool, connections: int) -> requests.Session:
    """A session for HTTPS only. It reads neither ~/.netrc, which would replace GITHUB_TOKEN, nor the environment."""
    session = requests.Session()
    session.trust_env = False
    session.verify = ca
    del session.adapters["http://"]
    session.mount("https://", Adapter(pool_maxsize=connections))
    return session


class Web:
    """GitHub and the RHCOS store over kept-alive connections. GITHUB_TOKEN is sent to api.github.com only."""

    def __init__(self, environment: Environment) -> None:
        self.session = new_session(environment.web_ca, WEB_THREADS)
        self.token = environment.github_token

    def close(self) -> None:
        """Close the connections; the next call opens new ones. A proxy may allow few of them."""
        self.session.close()

    def get_json(self, url: str, missing: str = "") -> Any:
        """GET a JSON document; `missing` explains a 404 of GitHub. A body that is no JSON is a lost answer."""
        started = time.monotonic()
        status = 0
        try:
            response = self.get(url)
            status = response.status_code
        except Exception as error:
            # A redirect to a malformed URL ends in an exception of any type.
            raise self.explain(url, error, time.monotonic() - started) from None
        finally:
            log.debug("GET %s: %s in %.3f s", url, status or "no answer", time.monotonic() - started)
        message = f"{url}: HTTP status {status}"
        github = url.startswith((GITHUB_API, GITHUB_RAW))
        if status >= 500 or (status == 429 and not github):  # The limits of GitHub are by the hour.
            raise LostError(message, str(status), time.monotonic() - started)
        if status != 200 and github:
            raise Refusal(explain_github_error(response, missing, bool(self.token)))
        if status != 200:
            raise OutsideError(message, str(status))
        try:
            document = json.loads(response.content)
            if document is None:
                raise ValueError("null")
            return document
        except (ValueError, RecursionError) as error:
            raise LostError(f"{url}: not JSON ({one_line(error)})") from None

    def get(self, url: str) -> requests.Response:
        headers = {}
        if url.startswith(GITHUB_API):
            headers["Accept"] = f"application/vnd.github{'.raw' if '/contents/' in url else ''}+json"
            if self.token:
                headers["Authorization"] = f"Bearer {self.token}"
        timeout = (CONNECT_TIMEOUT, WEB_TIMEOUT)
        return self.session.get(url, headers=headers, timeout=timeout, proxies=get_environ_proxies(url))

    def explain(self, url: str, error: Exception, seconds: float) -> OutsideError:
        failure = explain_failure(url, error, self.session.verify, seconds)
        if isinstance(failure, DeniedError):
            return Refusal(str(failure))
        if isinstance(error, (requests.ConnectionError, requests.Timeout, ChunkedEncodingError, ContentDecodingError)):
            return failure
        return OutsideError(f"{url}: {words_of(error)}")


def explain_github_error(response: requests.Response, missing: str, token: bool) -> str:
    """What a refusal of GitHub means, in its own words, and what to do; `missing` explains a 404.

    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    status, headers = response.status_code, response.headers
    if status == 404 and missing:
        return missing
    words = re.search(rb'"message": *"([^"]*)"', response.content)
    or_token = "" if token else ", or set GITHUB_TOKEN"
    if headers.get("X-RateLimit-Remaining") == "0":
        reset = headers.get("X-RateLimit-Reset", "")
        at = datetime.fromtimestamp(int(reset), timezone.utc) if re.fullmatch("[0-9]{1,11}", reset) else "the next hour"
        remedy = f"the API rate limit is used up until {at}: run again then{or_token}"
    elif status == 429 or "Retry-After" in headers:
        seconds = one_line(headers.get("Retry-After", 3600))
        remedy = f"a rate limit: run again after {seconds} seconds{or_token}"
    elif status in (401, 403):
        remedy = "unset or replace GITHUB_TOKEN" if token else "set GITHUB_TOKEN"
    else:
        remedy = "try again later"
    said = one_line(words[1].decode(errors="replace")) if words else "no message"
    return f"{response.url}: HTTP status {status} ({said}): {remedy}"


class Ecs:
    """The ECS API (2014-05-26) of one region, for several threads."""

    def __init__(self, region: str, environment: Environment) -> None:
        self.region = region
        self.patience = Patience(region)
        # Every region has an endpoint of this name; the SDK would ask another service for those that it does not know.
        self.host = f"ecs.{region}.aliyuncs.com"
        key = (environment.key_id, environment.secret)
        timeouts = {"connect_timeout": CONNECT_TIMEOUT, "timeout": ECS_TIMEOUT}
        self.client = AcsClient(*key, region, auto_retry=False, verify=environment.ecs_ca, **timeouts)
        # The SDK brings a requests and urllib3 of 2019, which send no server name from Python 3.12 on.
        self.client.session = new_session(environment.ecs_ca, REGION_THREADS + 1)

    def close(self) -> None:
        """Close the connections; the next call opens new ones. A proxy may allow few of them."""
        self.client.session.close()

    def look(self, ids: Iterable[str]) -> Look[Seen]:
        """Look at up to 100 images. The answer may list images of other accounts, too: see Seen.own."""
        return self.images(ImageId=",".join(dict.fromkeys(ids)))

    def look_at_snapshots(self, ids: Iterable[str]) -> Look[SeenSnapshot]:
        """Look at up to 100 snapshots."""
        return self.snapshots(SnapshotIds=json.dumps(list(ids)))

    def images(self, page: int = 1, **filters: str) -> Look[Seen]:
        return self.list_page("Image", parse_seen, page, Status=EVERY_STATUS, **filters)

    def snapshots(self, page: int = 1, **filters: str) -> Look[SeenSnapshot]:
        """A page of the account's snapshots. With a filter by tag, no more than 1,000 would be listed."""
        return self.list_page("Snapshot", parse_seen_snapshot, page, **filters)

    def list_page(self, kind: str, parse: Callable[[Any], Answer], page: int, **filters: str) -> Look[Answer]:
        """A page of a listing. One that does not hold what its TotalCount promises is a lost answer."""
        request_type = {"Image": DescribeImagesRequest, "Snapshot": DescribeSnapshotsRequest}[kind]
        at = read_clocks()
        answer = self.call(request_type, PageSize=DESCRIBE_LIMIT, PageNumber=page, **filters)
        try:
            seen = {str(each[f"{kind}Id"]): parse(each) for each in answer[f"{kind}s"][kind]}
            expected = min(DESCRIBE_LIMIT, max(0, answer["TotalCount"] - (page - 1) * DESCRIBE_LIMIT))
        except (AttributeError, KeyError, TypeError) as error:
            raise LostError(f"Describe{kind}s: unexpected answer ({one_line(repr(error))})") from None
        if len(seen) != expected:
            raise LostError(f"Describe{kind}s: the answer lists {len(seen)} of {expected}")
        return Look(seen, at)

    def tag(self, kind: str, ids: Sequence[str], key: str, value: str) -> None:
        """Tag up to 50 images or snapshots. One that cannot be tagged fails the whole call."""
        self.call(TagResourcesRequest, ResourceType=kind, ResourceIds=ids, Tags=[{"Key": key, "Value": value}])

    def make_private(self, id: str) -> None:
        """Unpublish a community image."""
        done_already = ("Image.NotPublic", "InvalidImageId.NotFound")
        self.call(ModifyImageSharePermissionRequest, done_already, ImageId=id, IsPublic="false")

    def delete(self, id: str) -> None:
        """Delete a private image. Never by Force."""
        self.call(DeleteImageRequest, ["InvalidImageId.NotFound"], ImageId=id)

    def delete_snapshot(self, id: str) -> None:
        """Delete a snapshot. Never by Force."""
        self.call(DeleteSnapshotRequest, ["InvalidSnapshotId.NotFound"], SnapshotId=id)

    def call(self, request_type: type[Any], done: Collection[str] = (), **parameters: object) -> dict[str, Any]:
        """Call an operation once, and return its answer; error codes that say that nothing is left to do are success.

        Every answer is an object with a RequestId; anything else, as a proxy's page, is a lost answer.
        """
        request = request_type()
        request.set_protocol_type(protocol_type.HTTPS)
        request.set_endpoint(self.host)
        for name, value in parameters.items():
            getattr(request, f"set_{name}")(value)
        operation = request_type.__name__[: -len("Request")]
        started = time.monotonic()
        result = ""
        try:
            body = self.client.do_action_with_exception(request)
            answer = json.loads(body)
            if not (isinstance(answer, dict) and answer.get("RequestId")):
                raise TypeError(f"unexpected answer {excerpt(body)}")
            result = f"ok, RequestId {one_line(answer['RequestId'])}"
            return answer
        except Exception as error:
            # An answer that the SDK does not expect ends in an exception of any type within it.
            failure = self.explain(operation, error, time.monotonic() - started)
            if not failure.code:  # no answer of ECS
                self.close()  # The next call would open a new one although others are idle, and a proxy may refuse it.
            result = str(failure)
            if failure.code in done:
                return {}
            raise failure from None
        finally:
            if log.isEnabledFor(logging.DEBUG):
                about = one_line([value for name, value in parameters.items() if name.endswith(("Id", "Ids"))])
                seconds = time.monotonic() - started
                log.debug("%s %s %s: %s in %.3f s", self.region, operation, about, result, seconds)

    def explain(self, operation: str, error: Exception, seconds: float) -> OutsideError:
        if not isinstance(error, ServerException):
            said = error.get_error_msg() if isinstance(error, ClientException) else error
            return explain_failure(operation, said, self.client.session.verify, seconds)
        code, status = one_line(error.get_error_code()), error.get_http_status()
        said, request_id = one_line(error.get_error_msg()), one_line(error.get_request_id())
        message = f"{operation}: {code} (HTTP status {status}, {said}, RequestId {request_id})"
        if "Throttling" in code:
            # It stays refused until the next minute begins. A second more, for clocks that differ.
            return ThrottledError(message, code, 61 - (time.time() - seconds) % 60)
        if CREDENTIALS_REFUSED.fullmatch(code):
            remedy = "check ALIYUN_ACCESS_KEY_ID, ALIYUN_ACCESS_KEY_SECRET and this machine's clock"
            return DeniedError(f"{message}: {remedy}", code)
        if PERMISSION_LACKING.fullmatch(code):
            return DeniedError(f"ecs:{message}: grant ecs:{operation} to the key", code)
        if status >= 500 or status in (408, 429) or PASSING.fullmatch(code):
            return LostError(message, code, seconds)
        return OutsideError(message, code)


# Steps 1 and 2: the history of rhcos.json


def fetch_all(web: Web, fetch: Callable[[Item], Answer], items: Collection[Item], what: str) -> Round[Item, Answer]:
    """Fetch something from the web for each item side by side. Raises a Refusal as soon as one is met."""
    progress.begin(what, len(items))

    def fetch_one(item: Item) -> Answer:
        document = fetch(item)
        progress.count(done=1)
        return document

    documents = work_off(items, partial(try_each, fetch_one, WEB_THREADS), len(items), Patience())
    web.close()
    if isinstance(documents.hopeless, Refusal):
        raise documents.hopeless
    return documents


def list_commits(web: Web, release: str) -> list[str]:
    """List the SHAs of the commits on the release's branch that touched rhcos.json, newest first.

    The list may be cut short, with status 200 (NixOS/nixpkgs-committers#100), so it is believed only if it ends with
    the oldest commit. https://docs.github.com/rest/commits/commits#list-commits
    """
    progress.begin("commits listed", 0)
    missing = f"openshift/installer has no branch release-{release}: check the release"

    def fetch(start: str, page: int) -> dict[str, None]:
        url = f"{GITHUB_API}/commits?sha={start}&path={STREAM_METADATA}&per_page={COMMITS_PER_PAGE}&page={page}"
        answer = insist(lambda: web.get_json(url, missing), Patience())
        progress.count(done=len(as_list(answer)))
        return {COMMIT.fullmatch(commit["sha"])[0]: None for commit in as_list(answer)}  # type: ignore[index]

    try:
        commits = list(fetch(f"release-{release}", 1))
        if len(commits) >= COMMITS_PER_PAGE:
            # The history of a commit cannot change between two pages, as a branch can.
            commits = list(read_pages(partial(fetch, commits[0]), COMMITS_PER_PAGE))
    except LostError as error:
        raise Refusal(f"GitHub did not list the commits: {error}") from None
    except (KeyError, TypeError) as error:
        raise Refusal(f"GitHub did not list the commits ({one_line(repr(error))}): try again later") from None
    if commits[-1:] != [OLDEST_COMMIT]:
        words = f"GitHub's list of the commits that changed rhcos.json on release-{release} is incomplete"
        end = f"its {len(commits)} commits do not end with the oldest one, {OLDEST_COMMIT[:7]}"
        raise Refusal(f"{words}: {end}: run again later")
    return commits


class Version(NamedTuple):
    """What a version of rhcos.json names."""

    builds: list[str]
    images: list[Image]
    directories: list[str]  # of the store


def find_bootimages(web: Web, name: str) -> tuple[Release, list[str]]:
    """Find what the versions of rhcos.json on the release's branch name, and the directories of its builds."""
    commits = list_commits(web, name)
    versions = fetch_all(web, partial(fetch_version, web, name), commits, "versions of rhcos.json read")
    for commit, error in versions.failed.items():
        raise Refusal(f"rhcos.json of commit {commit} could not be read: {error}")
    named = [versions.answers[commit] for commit in commits]
    for commit, version in zip(commits, named):
        image_log.info("commit %s names %s", commit, ", ".join(sorted(set(version.builds))))
    images = {image.id: image for version in named for image in version.images}
    bootimages = frozenset(build for version in named for build in version.builds)
    if not images:
        raise Refusal(f"no version of rhcos.json on release-{name} names an Aliyun bootimage: check the release")
    counts = f"{len(bootimages)} builds and {len(images)} Aliyun images"
    log.info("%d versions of rhcos.json on release-%s name %s", len(named), name, counts)
    directories = dict.fromkeys(directory for version in named for directory in version.directories)
    return Release(name, bootimages, images, {}), list(directories)


def fetch_version(web: Web, release: str, commit: str) -> Version:
    """Fetch rhcos.json of a commit.

    raw.githubusercontent.com costs no budget of the API, but has a limit that no token lifts (mozilla/cargo-vet#672).
    A 404 is never believed: on 2025-08-08 it answered that for files that existed (aquaproj/aqua-registry#39883).
    """
    by_api = f"{GITHUB_API}/contents/{STREAM_METADATA}?ref={commit}"
    missing = f"rhcos.json of commit {commit} was not found: if release-{release} has no such file any more, it has no "
    missing += "Aliyun images; otherwise run again later"
    document = web.get_json(by_api if web.token else f"{GITHUB_RAW}/{commit}/{STREAM_METADATA}", missing)
    try:
        return parse_version(document, release)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        words = f"rhcos.json of commit {commit} is not the stream metadata that this program knows"
        raise Refusal(f"{words} ({one_line(repr(error))}): what to keep is unknown") from None


def parse_version(document: Any, release: str) -> Version:
    """What a version of CoreOS stream metadata names.

    `architectures.<arch>.images.aliyun.regions.<region>` is {"release": build, "image": ID}; most architectures have no
    Aliyun images, some no images at all. A build is named wherever its ID stands, for whichever platform. Every version
    names a build of x86_64: one without is not whole.

    A branch inherits versions that name the previous release's builds. Their directories are left out: another branch
    names the bootimages in them. The host is ignored: older versions name one that no longer exists, with equal paths.
    """
    artifacts = json.dumps(document["architectures"]["x86_64"]["artifacts"])
    if not BUILD_ID.search(artifacts):
        other = re.search(r'"release": "([^"]+)"', artifacts)
        if other:  # such as 9.6.20251023-0, since 4.19
            raise Refusal(f"release {release} has no Aliyun images: its branch names the build {excerpt(other[1])}")
        raise ValueError("no build of x86_64")
    images = [
        parse_image("" + entry["release"], region, entry["image"])
        for architecture in document["architectures"].values()
        for region, entry in architecture.get("images", {}).get("aliyun", {}).get("regions", {}).items()
    ]
    # As it stands there: an escape, or %20, in front of an ID would look like a part of it.
    text = json.dumps(document, ensure_ascii=False)
    places = ARTIFACT.findall(text)
    directories = [d for d, build, arch in places if is_of_release(build, release) and arch in ECS_ARCHITECTURES]
    return Version([match[0] for match in BUILD_ID.finditer(unquote(text))], images, directories)


def is_of_release(build: str, release: str) -> bool:
    """Whether the ID is of this release: those of 4.10 begin with `410.`."""
    return build.startswith(release.replace(".", "") + ".")


# Step 3: every build


def find_builds(web: Web, release: str, named: Collection[str]) -> tuple[Builds, list[str]]:
    """Find every build in the directories that the history names and in the usual ones.

    Also returns the named directories that the store does not have.
    """
    usual = [directory.format(release=release) for directory in USUAL_DIRECTORIES]
    directories = list(dict.fromkeys([*named, *usual]))
    listings = fetch_all(web, partial(fetch_listing, web), directories, "builds.json read")
    for error in listings.failed.values():
        if error.code not in ABSENT:
            raise Refusal(f"the builds could not be listed: {error}")
    if not listings.answers:
        raise Refusal(f"the store has no builds.json of release {release}: check the release")
    builds: Builds = defaultdict(dict)
    for directory in directories:
        for build, urls in listings.answers.get(directory, {}).items():
            builds[build] |= urls
    return dict(sorted(builds.items(), reverse=True)), sorted(listings.failed.keys() & set(named))


def fetch_listing(web: Web, directory: str) -> Builds:
    """Fetch a builds.json: each build with the URLs of its meta.json, one per architecture that ECS offers.

    `{"builds": [{"id": ..., "arches": ["x86_64"]}], "tombstone-builds": [...]}`; the tombstones are builds that
    coreos-assembler pruned. A build in both lists is no tombstone (coreos/coreos-assembler#3894).
    """
    url = f"{STORE}/{directory}/builds.json"
    listing = web.get_json(url)
    builds: Builds = defaultdict(dict)
    try:
        lists = {True: listing.get("tombstone-builds", []), False: listing["builds"]}
        for is_tombstone, entries in lists.items():
            for build in as_list(entries):
                arches = [arch for arch in ECS_ARCHITECTURES if arch in as_list(build["arches"])]
                urls = [f"{STORE}/{directory}/{build['id']}/{arch}/meta.json" for arch in arches]
                builds["" + build["id"]] |= dict.fromkeys(urls, is_tombstone)
    except (AttributeError, KeyError, TypeError):
        raise Refusal(f"{url}: not a list of builds; try again later") from None
    return builds


def reason_to_skip(build: str, release: Release) -> str:
    """Why the images of a build are not considered for deletion, or an empty string."""
    if build in release.bootimages:
        return BOOTIMAGE
    match = BUILD_ID.fullmatch(build)
    try:
        built = datetime.strptime(f"{match[1] if match else ''}+0000", "%Y%m%d%H%M%z")
    except ValueError:
        return NO_DATE
    if not is_of_release(build, release.name):
        return OTHER_RELEASE
    return TOO_YOUNG if datetime.now(timezone.utc) - built < YOUNG else ""


# Step 4: the images of each build


def find_uploads(web: Web, builds: Builds, release: Release, record: Record) -> tuple[Uploads, dict[str, OutsideError]]:
    """Find the images that each build uploaded: of bootimages, and of builds to prune that are not on record.

    Also returns the builds that could not be read completely. Of a bootimage, what was read is known all the same.
    coreos-assembler deletes the meta.json of a tombstone, which had no Aliyun images (cmd-coreos-prune).
    """
    reasons = {build: reason_to_skip(build, release) for build in builds}
    for build, why in reasons.items():
        if why and why != BOOTIMAGE:
            image_log.info("build %s is left: %s", build, why)
    to_read = [build for build, why in reasons.items() if why == BOOTIMAGE or (not why and build not in record)]
    urls = [(build, url) for build in to_read for url in builds[build]]
    metas = fetch_all(web, lambda item: fetch_uploads(web, *item), urls, "meta.json read")
    unread = {}
    for (build, url), error in metas.failed.items():
        is_tombstone = builds[build][url]
        if not (is_tombstone and error.code in ABSENT):
            unread[build] = error
    uploads: Uploads = {build: [] for build in to_read if not builds[build]}  # of no architecture that ECS offers
    for (build, _), images in metas.answers.items():
        if build not in unread or build in release.bootimages:
            uploads[build] = list(dict.fromkeys([*uploads.get(build, []), *images]))
    return uploads, unread


def fetch_uploads(web: Web, build: str, url: str) -> list[Image]:
    """Fetch the images from a meta.json of coreos-assembler.

    It is an object with the build's ID in `buildid`, and `"aliyun": [{"name": region, "id": ID}]` if there are images.
    """
    meta = web.get_json(url)
    try:
        if meta["buildid"] != build:
            raise ValueError(f"its buildid is {excerpt(meta['buildid'])}")
        return [parse_image(build, image["name"], image["id"]) for image in as_list(meta.get("aliyun", []))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OutsideError(f"{url}: not the meta.json of this build ({one_line(repr(error))})") from None


# Step 5: look at every image, and decide


def reason_to_keep(image: Image, seen: Seen, release: Release) -> str:
    """Why an image must stay, or an empty string if it may be deleted; the only place that decides that.

    What the lists and the record say of an image is checked against its name, which says which build uploaded it:
    every upload and every copy is named BUILDNAME-BUILDID (coreos-assembler's src/cosalib/aliyun.py).
    """
    named = [match[0] for match in BUILD_ID.finditer(seen.name)]
    build = named[0] if len(named) == 1 else ""
    if image.id in release.images or release.bootimages.intersection(named):
        return BOOTIMAGE
    if not seen.own:
        return "not the account's own"
    if seen.pinned:
        return PINNED
    if seen.in_use:
        return "used by an instance"
    if build not in release.builds:
        return f"its name has no ID of a build that a builds.json lists ({excerpt(seen.name)})"
    if not seen.complete:
        return "shown without disks, so that its snapshots are unknown"
    return reason_to_skip(build, release)


class FirstLook(NamedTuple):
    """What the first look at the bootimages of a region showed: one of them, its witness, or why there is none."""

    ecs: Ecs
    witness: tuple[str, ...] = ()  # the ID of an image of the account that no run deletes
    error: OutsideError | None = None


class Pruned(NamedTuple):
    """What came of a region."""

    images: dict[Image, Outcome]
    snapshots: dict[str, SnapshotOutcome]  # by ID
    left: Counter[str]  # by LEFT_UNLISTED and so on
    problems: list[str]  # a line for each reason why something failed


class Region:
    """Steps 5 and 6 in one region: look, decide, act, and look again."""

    def __init__(self, first: FirstLook, release: Release, own: dict[str, Seen], args: argparse.Namespace) -> None:
        self.ecs, self.name = first.ecs, first.ecs.region
        self.release = release
        self.witness = first.witness
        self.seen = own  # images by ID, as last seen
        self.dry_run: bool = args.dry_run
        self.delete_snapshots: bool = args.delete_snapshots
        self.tagged: set[str] = set()  # images and snapshots that this run tagged: listings can lag behind
        self.warned_of_marks = False
        self.denied_marks = 0  # in a row
        self.begun: set[Image] = set()  # images that this run has tried to delete

    def prune(self, images: Collection[Image]) -> Pruned:
        """Prune these images, tag the bootimages among them, and sweep the snapshots. Raises nothing."""
        bootimages = [image for image in images if image.id in self.release.images]
        others = [image for image in images if image.id not in self.release.images]
        first, then = self.work_off(bootimages, self.prune_batch), self.work_off(others, self.prune_batch)
        outcomes = first.answers | then.answers
        deleted = [image for image, outcome in outcomes.items() if outcome.result is Result.DELETED]
        failed = then.failed | self.confirm_deletions(deleted)
        outcomes |= {image: Outcome(Result.FAILED, "", self.seen.get(image.id)) for image in [*first.failed, *failed]}
        problems = log_failures(self.name, "untagged bootimage", first.failed)
        problems += log_failures(self.name, "image", failed)
        swept = self.sweep(outcomes)
        return swept._replace(problems=problems + swept.problems)

    def work_off(self, items: Sequence[Item], work: Work[Item, Answer]) -> Round[Item, Answer]:
        """Work off images or snapshots in random order: if the first ones can never be changed, others come first in
        the next run."""
        return work_off(random.sample(items, len(items)), work, LOOK_LIMIT, self.ecs.patience)

    def prune_batch(self, batch: list[Image]) -> Round[Image, Outcome]:
        """Look at up to 99 images, and do with each what has to be done."""
        look = self.look(batch)
        outcomes = {image: self.decide(image, look.seen.get(image.id)) for image in batch}
        to_tag = [image for image, outcome in outcomes.items() if outcome.result is Result.TO_TAG]
        to_delete = [image for image, outcome in outcomes.items() if outcome.result is Result.TO_DELETE]
        settled = {image: outcome for image, outcome in outcomes.items() if image not in {*to_tag, *to_delete}}
        if self.dry_run:
            progress.count(done=len(outcomes))
            return Round(outcomes)
        problem = None
        try:
            if self.tag(to_tag, "true", look):
                settled |= {image: Outcome(Result.KEPT, BOOTIMAGE, look.seen[image.id]) for image in to_tag}
            is_marked = self.tag(to_delete, "false", look) and self.mark_snapshots(to_delete, look)
        except Exception as error:
            problem = as_expected(error)
        kept = [i for i, o in settled.items() if i.id not in self.release.images and o.result is not Result.DELETED]
        progress.count(total=-len(kept))
        if problem:
            return Round(settled, hopeless=problem)
        deleted = try_each(partial(self.delete_image, look), REGION_THREADS, to_delete if is_marked else [])
        return replace(deleted, answers=settled | deleted.answers)

    def look(self, images: Iterable[Image]) -> Look[Seen]:
        """Look at up to 99 images and the witness. An answer without the witness is no answer."""
        look = self.ecs.look([*(image.id for image in images), *self.witness])
        check_listed(self.name, self.witness, own_ids(look.seen), "DescribeImages")
        self.seen.update(look.seen)
        return look

    def decide(self, image: Image, seen: Seen | None) -> Outcome:
        """Decide what happens to an image after a look at it."""
        if seen:
            reason = reason_to_keep(image, seen, self.release)
            is_untagged = reason == BOOTIMAGE and seen.own and seen.tag != "true"
            result = Result.TO_TAG if is_untagged else Result.KEPT if reason else Result.TO_DELETE
            return Outcome(result, reason, seen)
        if not self.witness:
            return Outcome(Result.KEPT, NOT_LISTED)
        if image in self.begun:  # The answer to its deletion was lost.
            return self.log_deletion(image, self.seen[image.id])
        return Outcome(Result.GONE, BOOTIMAGE if image.id in self.release.images else "no longer listed")

    # Step 6: tag, make private, delete, and look again

    def tag(self, images: Sequence[Image], value: str, look: Look[Seen]) -> bool:
        """Tag the images that are not yet tagged so; returns False if the look has become too old for that."""
        untagged = [i for i in images if look.seen[i.id].tag != value and i.id not in self.tagged]
        for batch in batches(untagged, TAG_LIMIT):
            if not look.is_fresh():
                return False
            self.ecs.tag("image", [image.id for image in batch], "bootimage", value)
            for image in batch:
                self.tagged.add(image.id)
                image_log.info("%s tagged bootimage=%s", image, value)
        return True

    def mark_snapshots(self, images: Sequence[Image], look: Look[Seen]) -> bool:
        """Mark the snapshots behind images, so that a later run finds them; returns False if the look is too old."""
        behind = dict.fromkeys(id for image in images for id in look.seen[image.id].snapshots)
        for batch in batches([id for id in behind if id not in self.tagged], TAG_LIMIT):
            if not look.is_fresh():
                return False
            if not self.mark(batch):
                for ids in batches(batch, 1):
                    self.mark(ids)
                    self.tagged.update(ids)
            self.tagged.update(batch)
        return True

    def mark(self, ids: Sequence[str]) -> bool:
        """Mark up to 50 snapshots; False if that was refused, which is one warning and stops no deletion.

        After six denials in a row nothing is marked any more.
        """
        if self.denied_marks >= MOST_DENIED:
            return True
        try:
            self.ecs.tag("snapshot", ids, MARK, self.release.name)
        except PassingError:
            raise
        except OutsideError as error:
            if not self.warned_of_marks:
                words = "a snapshot could not be marked, so that only the log names it"
                log.warning("%s: %s: %s", self.name, words, error)
            self.warned_of_marks = True
            self.denied_marks += isinstance(error, DeniedError)
            return False
        self.denied_marks = 0
        return True

    def delete_image(self, look: Look[Seen], image: Image) -> Outcome | None:
        """Make an image private if it is public, and delete it; None if the look has become too old for that."""
        seen = look.seen[image.id]
        if seen.public and look.is_fresh():
            self.ecs.make_private(image.id)
            image_log.info("%s made private", image)
        for snapshot in seen.snapshots if image not in self.begun else ():
            # Logged first: once the image is gone, nothing in the cloud says which snapshots are its own.
            image_log.info("%s has snapshot %s", image, snapshot)
        if not look.is_fresh():  # A reader of the output may have blocked it for as long as it likes.
            return None
        self.begun.add(image)
        self.ecs.delete(image.id)
        return self.log_deletion(image, seen)

    def log_deletion(self, image: Image, seen: Seen) -> Outcome:
        image_log.info("%s deleted", image)
        progress.count(done=1, deleted=1)
        return Outcome(Result.DELETED, "", seen)

    def confirm_deletions(self, deleted: Sequence[Image]) -> dict[Image, OutsideError]:
        """Look until no deleted image is listed any more, or none has left the listing for five minutes.

        Returns those whose deletion no look has confirmed, with the reason.
        """
        left, since = list(deleted), time.monotonic()
        try:
            while left:
                looks = [insist(partial(self.look, batch), self.ecs.patience) for batch in batches(left, LOOK_LIMIT)]
                listed = [image for image in left if any(image.id in look.seen for look in looks)]
                since = time.monotonic() if len(listed) < len(left) else since
                if listed and time.monotonic() - since >= MOST_LISTED:
                    raise LostError("still listed five minutes after the deletion")
                left = listed
                time.sleep(CONFIRM_PAUSE if left else 0)
        except Exception as error:
            return dict.fromkeys(left, as_expected(error))
        return {}

    # The snapshots behind deleted images

    def sweep(self, images: dict[Image, Outcome]) -> Pruned:
        """With --delete-snapshots, delete what the images of this run left and what any run has marked; count the rest.

        Without that option a list that cannot be had is a warning.
        """
        deleted = {i: o.seen for i, o in images.items() if o.seen and o.result in (Result.TO_DELETE, Result.DELETED)}
        behind = {id: image for image, seen in deleted.items() for id in seen.snapshots}
        swept: Round[str, SnapshotOutcome] = Round()
        problems: list[str] = []
        try:
            while True:
                listed = list_all(self.list_snapshots, self.ecs.patience, set(self.witness_snapshots()).issubset)
                self.check_snapshots(listed)
                marked = [id for id, snapshot in listed.items() if snapshot.mark == self.release.name]
                known = swept.answers.keys() | swept.failed.keys()
                to_sweep = [id for id in dict.fromkeys([*behind, *marked]) if id not in known]
                if not (to_sweep and self.delete_snapshots):
                    break
                # Look again then: while other runs delete snapshots, some slip from one page of the listing to another.
                progress.count(snapshots=len(to_sweep))
                done = self.work_off(to_sweep, partial(self.sweep_batch, behind))
                swept.answers.update(done.answers)
                swept.failed.update(done.failed)
        except Exception as error:
            listed, problem = {}, f"{self.name}: what snapshots are left is unknown: {as_expected(error)}"
            log.warning("%s", problem)
            problems = [problem] * self.delete_snapshots
        outcomes = swept.answers | dict.fromkeys(swept.failed, SnapshotOutcome(Result.FAILED))
        unswept = {id: snapshot for id, snapshot in listed.items() if id not in swept.answers}
        staying = self.seen.keys() - {i.id for i, o in images.items() if o.result in (*NOT_THERE, Result.TO_DELETE)}
        in_use = {id for image in staying for id in self.seen[image].snapshots}
        left = self.count_left(unswept, in_use, behind)
        return Pruned(images, outcomes, left, problems + log_failures(self.name, "snapshot", swept.failed))

    def list_snapshots(self, page: int) -> Look[SeenSnapshot]:
        """A page of the account's snapshots. Throttling is not waited for if they are only counted."""
        try:
            return self.ecs.snapshots(page)
        except ThrottledError as error:
            raise error if self.delete_snapshots else OutsideError(str(error), error.code) from None

    def count_left(self, listed: dict[str, SeenSnapshot], in_use: set[str], behind: Collection[str]) -> Counter[str]:
        """How many snapshots are left that a later run deletes, or cannot delete yet, or does not know."""
        left = Counter[str]()
        for id, snapshot in listed.items():
            is_marked = snapshot.mark == self.release.name
            if is_marked and id in in_use:
                left[LEFT_STAYING] += 1
            elif is_marked and not snapshot.reason_to_keep:
                left[LEFT_MARKED] += 1
            elif id in behind and snapshot.reason_to_keep != PINNED:
                left[LEFT_BY_RUN if self.dry_run else LEFT_UNMARKED] += 1
        return left

    def witness_snapshots(self) -> list[str]:
        return [id for image in self.witness if image in self.seen for id in self.seen[image].snapshots[:1]]

    def check_snapshots(self, seen: Collection[str]) -> None:
        check_listed(self.name, self.witness_snapshots(), seen, "DescribeSnapshots")

    def sweep_batch(self, behind: Mapping[str, Image], batch: list[str]) -> Round[str, SnapshotOutcome]:
        """Look at up to 99 snapshots, and delete what nobody pinned and is marked, or `behind` images of this run."""
        look = self.ecs.look_at_snapshots([*batch, *self.witness_snapshots()])
        self.check_snapshots(look.seen)
        outcomes = {id: self.decide_snapshot(look.seen.get(id), id in behind) for id in batch}
        to_delete = [id for id, outcome in outcomes.items() if outcome.result is Result.TO_DELETE and not self.dry_run]
        settled = {id: outcome for id, outcome in outcomes.items() if id not in to_delete}
        deleted = try_each(partial(self.delete_snapshot, behind, look), REGION_THREADS, to_delete)
        return replace(deleted, answers=settled | deleted.answers)

    def decide_snapshot(self, seen: SeenSnapshot | None, is_behind: bool) -> SnapshotOutcome:
        """Decide what happens to a snapshot after a look at it."""
        if seen is None:
            shown = bool(self.witness_snapshots())
            return SnapshotOutcome(Result.GONE) if shown else SnapshotOutcome(Result.KEPT, NOT_LISTED)
        unmarked = "" if is_behind or seen.mark == self.release.name else "no longer marked"
        reason = seen.reason_to_keep or unmarked
        return SnapshotOutcome(Result.KEPT if reason else Result.TO_DELETE, reason)

    def delete_snapshot(self, behind: Mapping[str, Image], look: Look[SeenSnapshot], id: str) -> SnapshotOutcome | None:
        """Delete a snapshot, unless the API refuses that for good; None if the look has become too old for that."""
        if not look.is_fresh():
            return None
        try:
            self.ecs.delete_snapshot(id)
        except (PassingError, DeniedError):
            raise
        except OutsideError as error:
            return SnapshotOutcome(Result.KEPT, str(error))
        of = f"behind {behind[id].id}, {behind[id].build}" if id in behind else "marked by an earlier run"
        image_log.info("%s %s deleted (%s)", self.name, id, of)
        progress.count(swept=1)
        return SnapshotOutcome(Result.DELETED)


def check_listed(region: str, expected: Collection[str], seen: Collection[str], operation: str) -> None:
    """Raise LostError if an answer lacks what it must contain."""
    if not set(expected) <= set(seen):
        words = f"{', '.join(expected)}, which should be there, is not listed"
        raise LostError(words, remedy=f"check that the key's policy grants ecs:{operation} in {region}")


def own_ids(seen: dict[str, Seen]) -> list[str]:
    return [id for id, image in seen.items() if image.own]


def look_first(environment: Environment, name: str, bootimages: Sequence[Image]) -> FirstLook:
    """Look at the bootimages of a region, and make one of them its witness. Raises nothing."""
    ecs, ids = Ecs(name, environment), [image.id for image in bootimages[:DESCRIBE_LIMIT]]
    words = f"none of the {len(ids)} bootimages there is listed as the account's own"
    remedy = "check that the key may call ecs:DescribeImages there"
    try:
        listed = own_ids(insist(lambda: ecs.look(ids), ecs.patience).seen)
        own = [id for id in ids if id in listed]
        return FirstLook(ecs, tuple(own[:1]), None if own else OutsideError(words, remedy=remedy))
    except Exception as error:
        return FirstLook(ecs, error=as_expected(error))
    finally:
        ecs.close()
        progress.count(done=1)


def check_account(environment: Environment, bootimages: dict[str, list[Image]]) -> dict[str, FirstLook]:
    """Look at the bootimages of each region; refuse if none of them is the account's own, and say what was answered."""
    if not bootimages:
        raise Refusal("all regions in which rhcos.json names images are closed: nothing of this release is left")
    progress.begin("regions checked", len(bootimages))
    looks = list(call_each(lambda item: look_first(environment, *item), MOST_REGIONS, bootimages.items()))
    if not any(look.witness for look in looks):
        # What answered says more than what did not.
        first = min(looks, key=lambda look: isinstance(look.error, PassingError))
        hints: dict[type, str] = {
            LostError: "answered: check network and proxy",
            OutsideError: "is used: check ALIYUN_ACCESS_KEY_ID",
        }
        reason = hints.get(type(first.error), "can be used")
        raise Refusal(f"no region {reason} ({first.ecs.region}: {first.error})")
    return {look.ecs.region: look for look in looks}


def open_region(first: FirstLook, release: Release, some_expected: bool, args: argparse.Namespace) -> Region:
    """List the images of the account in a region, and choose the witness if there is no bootimage for that.

    Raises OutsideError if they cannot be listed, unless there is a witness all the same.
    """
    region, own = first.ecs.region, dict[str, Seen]()

    try:
        fetch = partial(first.ecs.images, ImageOwnerAlias="self")
        own = list_all(fetch, first.ecs.patience, lambda own: bool(own) or not some_expected)
        check_listed(region, first.witness, own, "DescribeImages")
    except OutsideError as error:
        if not first.witness:
            raise first.error or error from None
        log.warning("%s: what no list names is unknown: %s", region, error)
    if first.error and not own:  # Nothing is shown where bootimages should be.
        raise first.error
    ids = own_ids(own)
    # No run deletes the first three kinds, and this one not the fourth.
    ranked = [id for id in ids if id in release.images]
    ranked += [id for id in ids if own[id].pinned]
    ranked += [id for id in ids if not BUILD_ID.search(own[id].name)]
    ranked += [id for id in ids if Image(region, id) not in release.known]
    return Region(first._replace(witness=first.witness or tuple(ranked[:1])), release, own, args)


def warn_of_unlisted(region: str, own: dict[str, Seen], release: Release) -> int:
    """A failed replication leaves images that no meta.json names (coreos/coreos-assembler#3634). Returns how many."""
    number = 0
    for id, seen in own.items():
        build = BUILD_ID.search(seen.name)
        if build and build[0] in release.read and Image(region, id) not in release.known:
            log.warning("%s %s (%s) stays: %s", region, id, build[0], release.read[build[0]])
            number += 1
    return number


def prune_region(first: FirstLook, images: Sequence[Image], release: Release, args: argparse.Namespace) -> Pruned:
    """Prune the images of a region, and log what came of it. Raises nothing."""
    name = first.ecs.region
    try:
        region = open_region(first, release, bool(images), args)
        # One that the record calls deleted, and that is there, is looked at again.
        there = [image for image in release.known if image.region == name and image.id in region.seen]
        progress.count(total=len({i for i in there if i.id not in release.images}.difference(images)))
        unlisted = warn_of_unlisted(name, region.seen, release)
        pruned = region.prune(list(dict.fromkeys([*images, *there])))
        pruned.left[LEFT_UNLISTED] = unlisted
    except Exception as raised:
        error = as_expected(raised)
        if isinstance(error, LostError) or (error is first.error and not isinstance(error, DeniedError)):
            hint = f"if {name} is closed for good, add it to CLOSED_REGIONS in main.py"
            error = OutsideError(f"{error}; {hint}", error.code)
        failed = [image for image in images if image.id not in release.images]
        problems = log_failures(name, "image", dict.fromkeys(failed or images, error))
        if not images:  # All of it is on record as deleted, but snapshots may be left.
            log.warning("%s: nothing is known: %s", name, error)
            problems = [f"{name}: what snapshots are left is unknown: {error}"] * args.delete_snapshots
        pruned = Pruned(dict.fromkeys(failed, Outcome(Result.FAILED)), {}, Counter(), problems)
    first.ecs.close()
    log_outcomes(name, pruned)
    return pruned


def log_outcomes(region: str, pruned: Pruned) -> None:
    """Log what was not logged when it happened: what stays and why, what a dry run would change."""
    for image, (result, reason, seen) in sorted(pruned.images.items(), key=lambda item: str(item[0])):
        if result is Result.TO_DELETE:
            log.info("would delete %s%s", image, " after making it private" if seen and seen.public else "")
        elif result is Result.TO_TAG:
            log.info("would tag bootimage=true %s", image)
        elif reason == BOOTIMAGE and not (seen and seen.own):
            log.warning("%s is a bootimage, but it is not in the account", image)
        elif result is Result.GONE:
            image_log.info("%s is already gone", image)
        elif result is Result.KEPT and reason != BOOTIMAGE:
            log.warning("%s is kept: %s", image, reason)
    for id, outcome in pruned.snapshots.items():
        if outcome.result is Result.TO_DELETE:
            log.info("would delete %s %s", region, id)
        elif outcome.result is Result.KEPT:
            image_log.info("%s %s is kept: %s", region, id, outcome.reason)


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def summary_of(reason: str) -> str:
    """The reason without what differs from one image to the next, such as the RequestId."""
    return reason.partition(" (")[0]


def log_failures(where: str, kind: str, failures: Mapping[Item, OutsideError]) -> list[str]:
    """Log which images, snapshots or builds failed; returns a line for each reason, to be repeated at the end."""
    by_reason: dict[str, list[Item]] = defaultdict(list)
    for item, error in failures.items():
        by_reason[summary_of(str(error))].append(item)
    lines = []
    for reason, items in by_reason.items():
        for item in items if len(items) > MOST_NAMES else ():
            image_log.info("%s is left: %s", item, reason)
        names = ", ".join(str(getattr(item, "id", item)) for item in items)
        named = f" ({names})" if len(items) <= MOST_NAMES else ""
        lines.append(f"{where}: {plural(len(items), kind)}{named}: {failures[items[0]]}")
        log.warning("%s", lines[-1])
    if failures:
        progress.failed[where] += len(failures)
    return lines


# Step 7: the record


def load_record(path: str) -> Record:
    """Load the record of earlier runs; it is empty if there is no file, or nothing in it."""
    try:
        record: Record = json.loads(read_file(path) or b"{}")
        check_record(record)
    except OSError as error:
        raise Refusal(f"the record {path} cannot be read: {error.strerror}; give another --filename") from None
    except (ValueError, RecursionError) as error:
        said = f"{path} is not a record of this program: {one_line(error)}"
        raise Refusal(f"{said}; repair it, or give another --filename") from None
    return record


def read_file(path: str) -> bytes:
    """The content of the record; empty if there is none. A device or a pipe could be read without end."""
    if not os.path.exists(path):
        return b""
    if not os.path.isfile(path):
        raise Refusal(f"the record {path} is not a file, but a directory, a device or a pipe; give another --filename")
    with open(path, "rb") as file:
        return file.read()


def check_record(record: object) -> None:
    """Raise ValueError unless this is a record."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    for build, entries in record.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{excerpt(build)} is not a list of objects")
        for entry in entries:
            parse_image(build, entry.get("region"), entry.get("image"))
            if not isinstance(entry.get("deleted"), bool):
                raise ValueError(f"an entry of {excerpt(build)} does not say whether it is deleted")


def update_record(record: Record, uploads: Uploads, release: Release, results: dict[Image, Outcome]) -> Record:
    """The record with this run's results; an entry of an image that this run has not seen stays as it is."""
    gone = {image: result in NOT_THERE for image, (result, _, seen) in results.items() if seen or result is Result.GONE}
    updated: Record = {}
    for build, entries in record.items():
        images = [Image(entry["region"], entry["image"]) for entry in entries]
        updated[build] = [{**e, "deleted": gone.get(image, e["deleted"])} for image, e in zip(images, entries)]
    for build, images in uploads.items():
        if build not in record and not reason_to_skip(build, release):
            updated[build] = [{"region": i.region, "image": i.id, "deleted": gone.get(i, False)} for i in images]
    return updated


def check_replaceable(path: str) -> None:
    """Refuse now if save_record would fail, by replacing the record with a copy of itself."""
    try:
        update_file(path, partial(read_file, path))
    except OSError as error:
        remedy = "give another --filename, and in a container mount the folder of the record, not the file"
        raise Refusal(f"the record {path} cannot be replaced: {error.strerror}; {remedy}") from None


def save_record(path: str, update: Callable[[Record], Record]) -> list[str]:
    """Update the record as it is now: another run may have written to it. Returns what goes wrong."""
    try:
        update_file(path, lambda: (json.dumps(update(load_record(path)), indent=2) + "\n").encode())
        return []
    except (OSError, Refusal) as error:
        said = f"the record {path} could not be written, and is unchanged: {error}"
        return [f"{said}; the next run will find the deleted images gone"]


def update_file(path: str, new_content: Callable[[], bytes]) -> None:
    """Replace a file in one step: whoever reads it, at any moment, sees the old content or the new one.

    The new content of a large record takes seconds, so that the folder is not locked meanwhile. If somebody replaced
    the file in these seconds, start again; the third time, lock the folder first. No empty file is made.
    """
    for lock_first in (False, False, True):
        with contextlib.ExitStack() as stack:
            if lock_first:
                stack.enter_context(locked_folder(path))
            if os.path.exists(path):
                stack.enter_context(open(path, "rb"))  # While it is open, no other file gets its inode.
            before, content = identity(path), new_content()
            temporary = stack.enter_context(temporary_file(path, content))
            if not lock_first:
                stack.enter_context(locked_folder(path))
            if identity(path) == before:
                if content:
                    os.replace(temporary, os.path.realpath(path))
                return
    raise OSError(errno.EBUSY, "other runs replace it all the time")


def identity(path: str) -> tuple[int, ...]:
    """What changes if a file is replaced, written to, or made."""
    status = os.stat(path) if os.path.exists(path) else None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) if status else ()


@contextlib.contextmanager
def locked_folder(path: str) -> Iterator[None]:
    """Keep other runs from replacing files in the folder of this file, if it can be locked within two seconds.

    Not every file system can lock a folder, and `flock FOLDER main.py` has locked it already.
    """
    folder = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
    try:
        for _ in range(LOCK_SECONDS * 10):
            with contextlib.suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        yield
    finally:
        os.close(folder)


replacing = threading.Lock()  # held while there is a temporary file


@contextlib.contextmanager
def temporary_file(path: str, content: bytes) -> Iterator[str]:
    """A file with this content beside another one, with its mode if that can be set; removed unless it is renamed."""
    path = os.path.realpath(path)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    with replacing:
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):
                shutil.copymode(path, temporary)
            yield temporary
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


# The run as a whole


def run(args: argparse.Namespace) -> int:
    """Do the seven steps; returns the exit status: 0, or 1 if some images were not pruned."""
    environment = read_environment()
    record = load_record(args.filename)
    if not os.path.exists(args.filename):
        log.info("no record at %s: every build is read", args.filename)
    if not args.dry_run:
        check_replaceable(args.filename)
    web = Web(environment)

    release, directories = find_bootimages(web, args.release)
    bootimages = group_by_region(release.images.values())
    first = check_account(environment, {n: named for n, named in bootimages.items() if n not in CLOSED_REGIONS})
    builds, missing = find_builds(web, args.release, directories)
    words = "rhcos.json names it, but the store has no builds.json there: run again later"
    problems = log_failures("RHCOS store", "folder", dict.fromkeys(missing, OutsideError(words)))
    uploads, unread = find_uploads(web, builds, release, record)
    # Nothing of a bootimage would be pruned.
    log_failures("RHCOS store", "bootimage's build", {b: e for b, e in unread.items() if b in release.bootimages})
    problems += log_failures("RHCOS store", "build", {b: e for b, e in unread.items() if b not in release.bootimages})

    release, to_look_at = find_images(release._replace(builds=builds), uploads, record)
    by_region = group_by_region(to_look_at)
    names = {image.region for image in release.known.values()} - CLOSED_REGIONS.keys()
    candidates = [i for name in names for i in by_region[name] if args.dry_run or i.id not in release.images]
    progress.begin("looked at" if args.dry_run else "deleted", len(candidates))
    regions = [(first.get(name) or FirstLook(Ecs(name, environment)), by_region[name]) for name in names]
    pruned = list(call_each(lambda region: prune_region(*region, release, args), MOST_REGIONS, regions))
    problems += [problem for region in pruned for problem in region.problems]
    results = {image: outcome for region in pruned for image, outcome in region.images.items()}
    for name, date in CLOSED_REGIONS.items():
        closed = (image for image in by_region[name] if image.id not in release.images)
        results.update((image, Outcome(Result.GONE, f"region closed on {date}")) for image in closed)

    if not args.dry_run:
        to_record = {} if missing else uploads  # A build can lie in two directories.
        update = partial(update_record, uploads=to_record, release=release, results=results)
        problems += save_record(args.filename, update)
    for line in summarize(results, pruned, release, record, args):
        log.info("%s", line)
    for problem in problems:
        log.error("%s", problem)
    if args.dry_run:
        outcomes: list[Outcome | SnapshotOutcome] = [*results.values()]
        outcomes += [outcome for region in pruned for outcome in region.snapshots.values()]
        is_due = any(outcome.result in (Result.TO_TAG, Result.TO_DELETE) for outcome in outcomes)
        nothing = "" if problems else ": there is nothing to do"
        log.info("nothing was changed%s", ": run the same command without --dry-run to do this" if is_due else nothing)
    return 1 if problems else 0


def find_images(release: Release, uploads: Uploads, record: Record) -> tuple[Release, list[Image]]:
    """Complete what is known of the release; returns it, and the images to look at."""
    pending = [image for images in uploads.values() for image in images]
    deleted: list[Image] = []
    for build, entries in record.items():
        for entry in entries if is_of_release(build, release.name) else ():
            (deleted if entry["deleted"] else pending).append(Image(entry["region"], entry["image"], build))
    listed = deleted + pending
    bootimages = {image.id: image for image in listed if image.build in release.bootimages} | release.images
    known = {image: image for image in [*listed, *bootimages.values()]}
    recorded = [build for build in record if is_of_release(build, release.name)]
    read = dict.fromkeys(recorded, LIST_RECORD) | dict.fromkeys(uploads, LIST_META)
    release = release._replace(images=bootimages, known=known, read=read)
    return release, list(dict.fromkeys([*bootimages.values(), *pending]))


def group_by_region(images: Iterable[Image]) -> defaultdict[str, list[Image]]:
    """The images of each region; none for any other region."""
    grouped: defaultdict[str, list[Image]] = defaultdict(list)
    for image in images:
        grouped[image.region].append(image)
    return grouped


def summarize(
    results: dict[Image, Outcome], pruned: Sequence[Pruned], release: Release, record: Record, args: argparse.Namespace
) -> Iterator[str]:
    """What the run did, or would do, line by line: bootimages, builds, a table of the regions, totals that add up."""
    states = {image: state_of_bootimage(image, results.get(image)) for image in release.images.values()}
    regions = Counter(build for build, _ in {(i.build, i.region) for i, state in states.items() if state == "kept"})
    for build in sorted(regions):
        yield f"bootimage {build}: {plural(regions[build], 'region')}"
    yield balance(f"named by the history: {plural(len(release.bootimages), 'build')},", "image", states.values())
    with_images = {image.build for image in release.known.values()}
    kinds = []
    for build in release.builds:
        unread = "tombstones" if all(release.builds[build].values()) else "not read"
        found = "to prune" if build in with_images else "without images" if build in release.read else unread
        kinds.append(reason_to_skip(build, release) or ("on record" if build in record else found))
    yield balance("listed by the store:", "build", kinds)
    success = Result.TO_DELETE if args.dry_run else Result.DELETED
    others = {image: outcome for image, outcome in results.items() if image.id not in release.images}
    yield from format_table(others, [success, Result.GONE, Result.KEPT, Result.FAILED])
    seen = [outcome for outcome in others.values() if outcome.seen]
    failed = [outcome for outcome in others.values() if not outcome.seen and outcome.result is Result.FAILED]
    unseen = [summary_of(o.reason) for o in others.values() if not o.seen and o.result is not Result.FAILED]
    yield balance("other images found:", "image", [summary_of(o.reason) or o.result.value for o in seen])
    if unseen:
        yield balance("not found:", "image", unseen)
    if failed:
        yield f"not looked at: {plural(len(failed), 'image')}"
    of_release = [entry for build, entries in record.items() if is_of_release(build, release.name) for entry in entries]
    recorded = {Image(entry["region"], entry["image"]) for entry in of_release if entry["deleted"]} - results.keys()
    if recorded:
        yield f"gone by the record of earlier runs: {plural(len(recorded), 'image')}"
    if args.delete_snapshots:
        swept = [outcome for region in pruned for outcome in region.snapshots.values()]
        yield balance("snapshots found:", "snapshot", [summary_of(o.reason) or o.result.value for o in swept])
    for kind, count in sum((region.left for region in pruned), Counter[str]()).items():
        yield f"{kind}: {count:,}"


def state_of_bootimage(image: Image, outcome: Outcome | None) -> str:
    if image.region in CLOSED_REGIONS:
        return "in closed regions"
    if outcome is None or outcome.seen is None:
        return "not looked at" if outcome is None or outcome.result is Result.FAILED else "missing"
    return "kept" if outcome.seen.own else "of another account"


def balance(title: str, noun: str, terms: Iterable[str]) -> str:
    """A line whose figures add up, the largest first."""
    counts = sorted(Counter(terms).items(), key=lambda item: (-item[1], item[0]))
    total = f"{title} {plural(sum(count for _, count in counts), noun)}"
    return f"{total} = {' + '.join(f'{count:,} {term}' for term, count in counts)}" if counts else total


def format_table(results: dict[Image, Outcome], columns: Sequence[Result]) -> Iterator[str]:
    """A row for each region, and the total."""
    counts: dict[str, Counter[Result]] = defaultdict(Counter)
    for image, outcome in results.items():
        counts[image.region][outcome.result] += 1
    if not counts:
        return
    total: Counter[Result] = sum(counts.values(), Counter())
    yield f"{'region':15}" + "".join(f"{column.value:>{len(column.value) + 2}}" for column in columns)
    for row, of_row in [*sorted(counts.items()), ("total", total)]:
        yield f"{row:15}" + "".join(f"{of_row[column]:{len(column.value) + 2},}" for column in columns)


# Output, signals, arguments


class RedactingFormatter(logging.Formatter):
    """Redacts credentials, and lets no foreign text forge a line or control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in record.message)
        return super().formatMessage(record)


class LogFile(logging.handlers.WatchedFileHandler):
    """The log file, opened anew if it was rotated away.

    If a line cannot be written to it, the run ends: what a change leaves would be named nowhere.
    """

    def reopenIfNeeded(self) -> None:  # noqa: N802
        try:
            super().reopenIfNeeded()
        except OSError:  # which the handler of the standard library would not handle
            self.handleError(logging.makeLogRecord({}))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        reason = f"the log {self.baseFilename} cannot be written: {one_line(sys.exc_info()[1])}"
        # This thread holds the lock of this handler: every other one waits for it at its next line.
        others = logging.Logger(log.name)
        others.handlers = [handler for handler in log.handlers if handler is not self]
        end_process(1, f"{reason}; give another --log-to-file", others)


class Terminal(logging.Handler):
    """Logs to a terminal, above a status line that is rewritten in place."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self.stream = stream
        self.status = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.write(f"{self.format(record)}\n")

    def show(self, status: str) -> None:
        """Replace the status line; an empty one leaves the terminal clean. What does not fit goes from the middle."""
        # An echoed ^C must fit behind it, or the line is wrapped and cannot be cleared.
        width = shutil.get_terminal_size().columns - 3
        parts = status.split(", ")
        while len(", ".join(parts)) > width and len(parts) > 2:
            parts.pop(1)
        with self.lock or contextlib.nullcontext():
            self.write("", ", ".join(parts)[:width])

    def write(self, line: str, status: str | None = None) -> None:
        clear = "\r\033[K" if self.status else ""
        self.status = self.status if status is None else status
        with contextlib.suppress(OSError):
            self.stream.write(f"{clear}{line}{self.status}")
            self.stream.flush()


def new_stdout_handler(debug: bool) -> logging.Handler:
    """On a terminal log what matters, anywhere else every line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return logging.StreamHandler(sys.stdout)
    terminal = Terminal(sys.stdout)
    if not debug:
        terminal.addFilter(lambda record: record.name == log.name or record.levelno >= logging.WARNING)
    return terminal


def start_log(path: str, debug: bool, release: str) -> None:
    """Log to stdout and, with time, time zone and release, to the file: several runs may share it."""
    try:
        log_file = LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        sys.exit(f"main.py: error: the log {path} cannot be written: {error.strerror}; give another --log-to-file")
    log_file.setFormatter(RedactingFormatter(f"%(asctime)s {release} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    # The file comes first: it has the line even if nobody reads stdout.
    log.handlers = [log_file]
    if sys.stdout:
        to_stdout = new_stdout_handler(debug)
        to_stdout.setFormatter(RedactingFormatter("%(levelname)-7s %(message)s"))
        log.addHandler(to_stdout)
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    log.propagate = False
    # A closed pipe behind stdout is no reason for tracebacks, nor to stop halfway.
    logging.raiseExceptions = False
    # The libraries' own logs quote URLs with key ID and signature; with DEBUG=sdk this one prints them by itself.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger("aliyunsdkcore.http.http_response").handlers.clear()
    # The SDK's own copy of urllib3 warns of the Python version.
    logging.captureWarnings(True)


def show_status(status: str) -> None:
    for handler in log.handlers:
        if isinstance(handler, Terminal):
            handler.show(status)


def show_progress(ended: threading.Event) -> None:
    """Show the progress until the work is done."""
    logged = time.monotonic()
    while not ended.wait(STATUS_SECONDS):
        show_status(str(progress))
        if time.monotonic() - logged >= PROGRESS_SECONDS:
            logged = time.monotonic()
            image_log.info("%s", progress)
    show_status("")


def log_end(status: int, log: logging.Logger = log) -> None:
    log.info("ended with status %d after %s", status, progress.elapsed())


def end_process(status: int, message: str, log: logging.Logger = log) -> None:
    """End the process wherever it is: the record is safe at any moment, so there is nothing to wind up."""

    def log_last_lines() -> None:
        log.error("%s", message)  # in the log file first: a terminal may be stopped
        show_status("")
        log_end(status, log)

    for each in SIGNALS:
        with contextlib.suppress(ValueError):  # in another thread than the main one
            signal.signal(each, signal.SIG_IGN)
    # In a thread, because a reader that stopped reading stdout would block the last line for as long as it likes.
    last_lines = threading.Thread(target=log_last_lines, daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads
        last_lines.start()
        last_lines.join(FAREWELL_SECONDS)
    replacing.acquire(timeout=FAREWELL_SECONDS)
    os._exit(status)


def end_at_once(signum: int, _: FrameType | None) -> None:
    name = signal.Signals(signum).name
    # A deletion counts when it is answered.
    images, snapshots = plural(progress.counts["deleted"], "image"), plural(progress.counts["swept"], "snapshot")
    done = f"at least {images} and {snapshots} deleted"
    end_process(128 + signum, f"interrupted by {name} ({progress}): {done}; run the same command again to continue")


def release_number(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*\.(0|[1-9][0-9]*)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a release: give it in the form 4.10")
    return text


def file_path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("a file name must not be empty")
    try:
        return os.path.abspath(text)
    except OSError as error:
        sys.exit(f"main.py: error: the current folder cannot be used: {error.strerror}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--dry-run", action="store_true", help="Just print what would happen")
    parser.add_argument("--debug", "-d", action="store_true", help="Enable debug logging")
    record_help = "Path to file where bootimage data can be recorded; will allow for faster execution if script is run "
    record_help += "multiple times"
    parser.add_argument("--filename", type=file_path, default="deleted_images.json", help=record_help)
    log_help = "Filename to record all log output to"
    parser.add_argument("--log-to-file", type=file_path, default="aliyun_pruner.log", help=log_help)
    snapshots_help = "Delete the snapshots behind the deleted images, too"
    parser.add_argument("--delete-snapshots", action="store_true", help=snapshots_help)
    parser.add_argument("release", type=release_number, help="OCP release to operate on")
    args = parser.parse_args(argv)
    if os.path.realpath(args.filename) == os.path.realpath(args.log_to_file):
        parser.error("--filename and --log-to-file are the same file")
    return args


def run_and_log(args: argparse.Namespace) -> int:
    """Run, and turn every exception into a line of the log."""
    try:
        what = "dry run" if args.dry_run else "run"
        log.info("%s of release %s; record: %s, log: %s", what, args.release, args.filename, args.log_to_file)
        return run(args)
    except Refusal as error:
        log.error("%s (nothing was changed)", error)
    except Exception as error:
        log.error("%s", as_expected(error))
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Work in threads, so that this one is free for signals, and holds no lock then; returns the exit status."""
    args = parse_args(argv)
    start_log(args.log_to_file, args.debug, args.release)
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, end_at_once)
    ended = threading.Event()
    display = threading.Thread(target=show_progress, args=[ended], daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads: go on without it
        display.start()
    status = next(call_each(run_and_log, 1, [args]))
    ended.set()
    if display.ident:
        display.join()
    log_end(status)
    return status


if __name__ == "__main__":
    exit_status = main()
    # A reader that has gone must not change the exit status, and a call that hangs must not outlive the last line.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    os._exit(exit_status)
