#!/usr/bin/env python3
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

Everything that is asked of a service is asked in `work_off`: look, act, and look again until each item has an outcome.
Nothing else repeats a call. Only `reason_to_keep` decides whether an image may be deleted. What a service does not show
is not therefore gone: an image counts as gone only if the same answer shows the region's witness, an image of the
account that no run deletes.
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
import fcntl
import io
import itertools
import json
import logging
import random
import re
import shutil
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import partial
from types import FrameType
from typing import IO, Any, NamedTuple, TypeVar, cast
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

# The vendor closed these regions on that day, with all that was in them (The Register, 2024-07-01).
CLOSED_REGIONS = {"ap-south-1": "2024-07-15", "ap-southeast-2": "2024-09-30"}

# A build may become a bootimage weeks later: over 66 bumps (4.10 to 4.18) the lag was 1 day (median), 16 days (most).
YOUNG = timedelta(days=30)

WEB_WORKERS = 16
REGION_WORKERS = 4  # in each region
MOST_REGIONS = 40  # more than Alibaba Cloud has

DESCRIBE_LIMIT = 100  # DescribeImages and DescribeSnapshots: the most IDs, and the largest page
TAG_LIMIT = 50  # TagResources: the most IDs
# Without Status, DescribeImages leaves out every image that is not Available.
EVERY_STATUS = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"
MARK = "rhcos-aliyun-pruner"  # the key of the tag of snapshots behind deleted images; its value is the release

LOOK_SECONDS = 60  # Make no change on an older look: somebody may have pinned the image since.

CONNECT_TIMEOUT = 10  # seconds
WEB_TIMEOUT = 20  # seconds without a byte
ECS_TIMEOUT = 40  # seconds; the SDK's own table grants DescribeImages 38 and DeleteImage 36

# There is no hope after so much without an answer; see Patience.
LOST_ROUNDS = 8
THROTTLED_ROUNDS = 15  # of ECS, one a minute
UNANSWERED_SECONDS = 300
MOST_FAILURES = 6  # of one item
LONGEST_PAUSE = 5.0  # seconds
CONFIRM_ROUNDS = 17  # A deleted image can stay in the listing for minutes: with these pauses at least five of them.
LONGEST_CONFIRM_PAUSE = 60.0  # seconds

PROGRESS_SECONDS = 30
STATUS_SECONDS = 0.5  # between two updates of the status line on a terminal
MOST_NAMES = 10  # of images or builds in one line
FAREWELL_SECONDS = 1  # The process ends even if its last line cannot be written.
LOCK_SECONDS = 2

SECRETS = ("ALIYUN_ACCESS_KEY_ID", "ALIYUN_ACCESS_KEY_SECRET", "GITHUB_TOKEN")
SHORTEST_SECRET = 8  # characters
SHORTEST_REDACTED = 4  # characters; a shorter part of a password cannot be redacted without garbling the log

# Error codes of https://api.alibabacloud.com/document/Ecs/2014-05-26/errorCode
CREDENTIALS_REFUSED = re.compile(
    r"InvalidAccessKeyId(\..+)?|InvalidAccessKeySecret|SignatureDoesNotMatch|IncompleteSignature"
    r"|Forbidden(\.AccessKey|\.AccessKeyDisabled|\.RiskControl|\.UserVerification)?"
    r"|NoEnabledAccessKey|InvalidSecurityToken.*|MissingSecurityToken|InvalidTimeStamp\.Expired"
)
PERMISSION_LACKING = re.compile(r"Forbidden\.RAM|Forbidden\.NotSupportRAM|NoPermission.*")
# These pass, with whatever status (aliyun/terraform-provider-alicloud#3437, aliyun/alibaba-cloud-sdk-go#39).
PASSING = re.compile(r"SignatureNonceUsed|OperationConflict|SystemBusy|ServiceUnavailable.*|InternalError")

CERTIFICATE = "certificate"  # This program's own code for one that cannot be verified

# Foreign data becomes part of URLs, of host names and of comma-separated lists: only safe characters are accepted.
BUILD_ID = re.compile(r"[0-9]+\.[0-9]+\.([0-9]{12})-[0-9]+")
REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
IMAGE_ID = re.compile(r"[A-Za-z0-9_-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
URL_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
DIRECTORY = re.compile(r"/art/storage/([A-Za-z0-9._/-]+)/([^/]+)/([^/]+)/[^/]+$")

# Reasons to keep an image, or not to look for images of a build
BOOTIMAGE = "bootimage"
NO_DATE = "no date in the build ID"
OTHER_RELEASE = "build of another release"
TOO_YOUNG = f"build younger than {YOUNG.days} days"
PINNED = "pinned by its tag bootimage=true"
NOT_LISTED = "not listed, and no image in this region shows that listings are complete"

Record = dict[str, list[dict[str, Any]]]
Outcomes = dict[Any, Any]  # the outcome of each item; an OutsideError if it failed
Errors = dict[Any, "OutsideError"]  # of items that may succeed later
Work = Callable[[list[Any], Outcomes], Errors]  # of one batch; see work_off
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


class Snapshot(Image):
    """A snapshot behind an image."""


class Seen(NamedTuple):
    """An image or snapshot as the cloud shows it."""

    own: bool
    public: bool
    in_use: bool
    pinned: bool
    tag: str  # the value of its tag `bootimage`, or an empty string
    name: str
    snapshots: tuple[str, ...]  # behind an image
    mark: str = ""  # on a snapshot: the release whose run marked it


class Look(NamedTuple):
    """An answer about images or snapshots: those that are there, by ID, and when it was asked for."""

    seen: dict[str, Seen]
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
    known: dict[str, Image]  # the images that any list names, the record included, by ID
    builds: Collection[str] = ()  # every build in a builds.json
    read: Collection[str] = ()  # the builds whose images are known


class Result(Enum):
    TO_DELETE = "to delete"
    DELETED = "deleted"
    GONE = "already gone"
    KEPT = "kept"
    FAILED = "failed"


class Outcome(NamedTuple):
    """The result for an image or snapshot, with the reason if there is one, and how the cloud showed the image."""

    result: Result
    reason: str = ""
    seen: Seen | None = None


class Refusal(Exception):
    """The run ends before it changes anything; the message says why and what to do."""


class OutsideError(Exception):
    """A service refused a call, or sent an unexpected answer. `code` is its error code or HTTP status, if any."""

    def __init__(self, message: str, code: str = "", seconds: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.seconds = seconds


class DeniedError(OutsideError):
    """The credentials were refused, or they lack the permission for this, or a certificate cannot be verified."""


class AllDeniedError(DeniedError):
    """Several calls at the same time were all denied: there is no hope for the rest."""


class LostError(OutsideError):
    """After `seconds` there was no usable answer: the call may or may not have been carried out."""


class ThrottledError(OutsideError):
    """Too many calls; the next one is allowed in `seconds`."""


# The loop


class Progress:
    """How far the current phase has come, and until when regions are throttled."""

    def __init__(self) -> None:
        self.run_started = time.monotonic()
        self.throttled: dict[str, float] = {}  # by region, in seconds since the epoch
        self.begin("starting", 0)

    def begin(self, what: str, total: int, *outcomes: Outcomes) -> None:
        """Begin a phase that adds the outcomes of so many items to these dicts."""
        self.what, self.total, self.outcomes = what, total, outcomes

    def __str__(self) -> str:
        values = [value for outcomes in self.outcomes for value in list(outcomes.values())]
        failed = sum(isinstance(value, OutsideError) for value in values)
        line = f"{self.what} {len(values):,}/{max(self.total, len(values)):,}, failed {failed:,}"
        waiting = [until for until in list(self.throttled.values()) if until > time.time()]
        if waiting:
            until = datetime.fromtimestamp(max(waiting)).strftime("%H:%M:%S")
            line += f", regions throttled {len(waiting)}, until {until}"
        return line


progress = Progress()


@dataclass
class Patience:
    """Waits between the rounds of a loop, and knows when there is no hope.

    Only an answer is progress, and with progress only throttling makes it wait. A refusal is tried again at once.
    All loops over a region share one, so that an outage is not waited for again in each.
    """

    region: str = ""
    rounds: int = LOST_ROUNDS
    longest_pause: float = LONGEST_PAUSE
    silence: str = f"no answer was younger than {LOOK_SECONDS} seconds"  # of a round without answers and errors
    lost_rounds: int = 0  # in a row, without progress
    throttled_rounds: int = 0
    unanswered: float = 0.0  # seconds of waiting for answers that did not come

    def wait(self, answered: bool, errors: Sequence[OutsideError], seconds: float) -> None:
        """Wait for as long as the errors of a round of so many seconds ask for; raises the last one if all is lost."""
        errors = errors or [LostError(self.silence)]
        lost = [error.seconds for error in errors if isinstance(error, LostError)]
        waited = min(sum(lost), seconds)  # Calls may have waited side by side.
        self.unanswered += waited
        throttled = max((error.seconds for error in errors if isinstance(error, ThrottledError)), default=0.0)
        if answered:
            self.lost_rounds = self.throttled_rounds = 0
        elif throttled:
            self.throttled_rounds += 1
        else:
            self.lost_rounds += 1
        spent = self.throttled_rounds >= THROTTLED_ROUNDS if throttled else self.lost_rounds >= self.rounds
        if spent or (waited >= 1 and self.unanswered >= UNANSWERED_SECONDS):
            raise errors[-1]
        if throttled:
            if self.region:
                progress.throttled[self.region] = time.time() + throttled
            time.sleep(throttled)
        elif lost and not answered:
            time.sleep(min(self.longest_pause, 0.25 * 2**self.lost_rounds) * random.uniform(0.5, 1))


def work_off(items: Iterable[Any], outcomes: Outcomes, work: Work, size: int, patience: Patience) -> None:
    """Work in batches until each item has an outcome, which is an error if the item failed.

    `work` adds outcomes, and returns the errors of items that may succeed later. If it raises an error, that was of a
    call for the whole batch, and nobody is to blame yet: the next batch is a quarter of it, and a batch with an answer
    is followed by one of four times its size. Raises the last error if there is no hope for the rest.
    """
    queue = deque(items)
    failures: Counter[Any] = Counter()
    most = size
    patience.lost_rounds = 0
    while queue:
        batch = [queue.popleft() for _ in range(min(most, len(queue)))]
        known, started = len(outcomes), time.monotonic()
        try:
            errors = work(batch, outcomes)
            seen, answered = list(errors.values()), len(outcomes) > known
            most = min(4 * most, size) if answered else most
        except AllDeniedError:
            raise
        except OutsideError as error:
            errors, seen, answered = ({batch[0]: error} if len(batch) == 1 else {}), [error], False
            most = most if isinstance(error, ThrottledError) else max(1, len(batch) // 4)
        failures.update(item for item, error in errors.items() if not isinstance(error, ThrottledError))
        outcomes.update((item, error) for item, error in errors.items() if failures[item] >= MOST_FAILURES)
        left = [item for item in batch if item not in outcomes]
        queue.extendleft(item for item in reversed(left) if item not in errors)
        queue.extend(item for item in left if item in errors)
        if queue or answered:
            patience.wait(answered, seen, time.monotonic() - started)


def work_off_or_fail(items: Collection[Any], outcomes: Outcomes, work: Work, size: int, patience: Patience) -> None:
    """Work off the items; if there is no hope for the rest, they fail with the last error."""
    try:
        work_off(items, outcomes, work, size, patience)
    except OutsideError as error:
        outcomes.update({item: error for item in items if item not in outcomes})


def try_each(function: Callable[[Any], Any], pool: ThreadPoolExecutor, items: list[Any], outcomes: Outcomes) -> Errors:
    """Call function with items side by side, for `work_off`; an item for which it returns None gets no outcome.

    Ends early when the others would meet the same: at a throttled or denied call, or if more were lost than answered.
    Raises the error if none was answered, and all were throttled, or several denied.
    """
    errors: Errors = {}
    known = len(outcomes)
    ended = threading.Event()

    def attempt(item: Any) -> None:
        if ended.is_set():
            return
        try:
            outcome = function(item)
        except (LostError, ThrottledError, DeniedError) as error:
            errors[item] = error
            if not isinstance(error, LostError) or len(errors) > len(outcomes) - known:
                ended.set()
            return
        except OutsideError as error:
            outcome = error
        except Exception:
            ended.set()
            raise
        if outcome is not None:
            outcomes[item] = outcome

    for future in as_completed([pool.submit(attempt, item) for item in items]):
        future.result()
    if len(outcomes) == known:
        raise_if_alike(list(errors.values()))
    return errors


def raise_if_alike(errors: Sequence[OutsideError]) -> None:
    """Raise the first error if all calls were throttled, or several were denied."""
    if errors and all(isinstance(error, ThrottledError) for error in errors):
        raise errors[0]
    if len(errors) > 1 and all(isinstance(error, DeniedError) for error in errors):
        raise AllDeniedError(str(errors[0]), errors[0].code)


def insist(call: Callable[[], Value], patience: Patience) -> Value:
    """Call until there is an answer. Raises the error of a refusal, or of lost answers when there is no hope."""

    def work(_: object, outcomes: Outcomes) -> Errors:
        try:
            outcomes[call] = call()
        except (LostError, ThrottledError):
            raise
        except OutsideError as error:
            outcomes[call] = error
        return {}

    outcomes: Outcomes = {}
    work_off([call], outcomes, work, 1, patience)
    if isinstance(outcomes[call], OutsideError):
        raise outcomes[call]
    return cast(Value, outcomes[call])


def read_pages(fetch: Callable[[int], dict[str, Value]], size: int) -> dict[str, Value]:
    """Read all pages of a listing, until one is not full or has no news: a listing can shift between two pages."""
    listed: dict[str, Value] = {}
    for number in itertools.count(1):
        page = fetch(number)
        is_last = len(page) < size or page.keys() <= listed.keys()
        listed.update(page)
        if is_last:
            break
    return listed


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# Foreign data


def find_values(document: object, key: str) -> Iterator[Any]:
    """Yield every value of this key, at any depth of a JSON document."""
    pending = [document]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if key in node:
                yield node[key]
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


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


def parse_resource(listed: Any) -> Seen:
    """What DescribeImages or DescribeSnapshots says of one; raises KeyError if it says nothing of tags."""
    tags = {str(tag["TagKey"]): str(tag["TagValue"]) for tag in listed["Tags"]["Tag"]}
    disks = listed.get("DiskDeviceMappings", {}).get("DiskDeviceMapping", [])
    return Seen(
        own=listed.get("ImageOwnerAlias") == "self",
        public=bool(listed.get("IsPublic")),
        in_use=listed.get("Usage", "instance") == "instance",
        pinned=any(key.casefold() == "bootimage" and value.casefold() == "true" for key, value in tags.items()),
        tag=tags.get("bootimage", ""),
        name=str(listed.get("ImageName", "")),
        snapshots=tuple(str(disk["SnapshotId"]) for disk in disks if disk.get("SnapshotId")),
        mark=tags.get(MARK, ""),
    )


def one_line(text: object, most: int = 300) -> str:
    """Foreign text for a message: without line breaks, and redacted before it is cut."""
    line = redact(" ".join(str(text).split()))
    return line if len(line) <= most else f"{line[:most]}..."


def excerpt(value: object) -> str:
    """The beginning of foreign data, for a message."""
    return one_line(ascii(value), 100)


def redact(text: str) -> str:
    """Redact credentials, which API errors and URLs contain, and all parts of the user and password of a proxy."""
    secrets = {os.environ.get(name, "").strip(): name for name in SECRETS}
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        userinfo = re.sub(r"^\w+:/+", "", os.environ.get(name, "").rpartition("@")[0])
        secrets.update(dict.fromkeys(re.split(r"[:/?#@\[\]]", f"{userinfo}:{unquote(userinfo)}"), name))
        secrets[base64.b64encode(unquote(userinfo).encode(errors="replace")).decode()] = name
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, f"<{secrets[secret]}>") if len(secret) >= SHORTEST_REDACTED else text
    return re.sub(r"(Signature=|Signature%3D)[^&\s'\")]+", r"\1<redacted>", text)


def words_of(error: object) -> str:
    """Why a call failed: the innermost words of an error that requests or the SDK has wrapped into several others."""
    text = str(error)
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
        return f"{type(error).__name__}: check HTTPS_PROXY"  # Its words may contain the password of a proxy.
    cause = text.partition("(Caused by ")[2] or (text if text.startswith("(") else "")
    quoted = re.findall(r"\"([^\"]+)\"|'([^']+)'", cause)
    words = one_line(re.sub(r"^.*(Pool|Connection)\(.*?\): |^<.*?>: ", "", "".join(quoted[-1]) if quoted else text))
    return f"{words}; check HTTPS_PROXY" if "ProxyError" in text and "Tunnel" not in text else words


# The services


class Environment(NamedTuple):
    """The environment variables that a run uses, checked."""

    key_id: str
    secret: str
    github_token: str
    web_ca: str | bool  # a file or folder of CA certificates, or True for those of certifi
    ecs_ca: str | bool


def read_environment() -> Environment:
    """Read and check the environment variables; no message contains a value."""
    missing = [name for name in SECRETS[:2] if not os.environ.get(name, "").strip()]
    if missing:
        raise Refusal(f"{' and '.join(missing)} not set, or empty: set the environment variables of the access key")
    for name in ("HTTPS_PROXY", "https_proxy"):
        if not re.fullmatch(r"[!-~]*", os.environ.get(name, "")):
            raise Refusal(f"the environment variable {name} contains a blank or an unusual character: correct it")
    ca = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True  # "" would switch it off.
    key_id, secret, token = map(read_secret, SECRETS)
    return Environment(key_id, secret, token, ca, os.environ.get("ALIBABA_CLOUD_CA_BUNDLE") or ca)


def read_secret(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if value.strip("'\"") != value:
        raise Refusal(f"the environment variable {name} contains quotation marks around its value: remove them")
    if value and not (re.fullmatch(r"[!-~]+", value) and len(value) >= SHORTEST_SECRET):
        raise Refusal(f"the environment variable {name} is malformed: it is too short, or contains unusual characters")
    return value


def new_session(ca: str | bool, connections: int) -> requests.Session:
    """A session for HTTPS only. It reads neither ~/.netrc, which would replace GITHUB_TOKEN, nor the environment."""
    session = requests.Session()
    session.trust_env = False
    session.verify = ca
    del session.adapters["http://"]
    session.mount("https://", HTTPAdapter(pool_maxsize=connections))
    return session


def certificate_hint(error: object, ca: str | bool) -> str:
    """What to do if a certificate could not be verified; empty if that is not the error."""
    if "CERTIFICATE_VERIFY_FAILED" not in str(error):
        return ""
    used = "the CA certificates of the package certifi" if ca is True else ca
    remedy = "set REQUESTS_CA_BUNDLE, or ALIBABA_CLOUD_CA_BUNDLE for Alibaba Cloud, to a file with the right CA"
    return f"; it was verified with {used}: {remedy}"


class Web:
    """GitHub and the RHCOS store over kept-alive connections. GITHUB_TOKEN is sent to api.github.com only."""

    def __init__(self, environment: Environment) -> None:
        self.session = new_session(environment.web_ca, WEB_WORKERS)
        self.ca = environment.web_ca
        self.token = environment.github_token

    def get_json(self, url: str, missing: str = "") -> Any:
        """GET a JSON document; `missing` explains a 404 of GitHub. A body that is no JSON is a lost answer."""
        started = time.monotonic()
        status = 0
        try:
            response = self.get(url)
            status = response.status_code
        except Exception as error:
            # A malformed proxy, or a redirect to a malformed URL, ends in an exception of any type.
            raise self.explain(url, error, time.monotonic() - started) from None
        finally:
            log.debug("GET %s: %s in %.3f s", url, status or "no answer", time.monotonic() - started)
        message = f"{url}: HTTP status {status}"
        github = url.startswith((GITHUB_API, GITHUB_RAW))
        if status >= 500 or (status == 429 and not github):  # The limits of GitHub are by the hour.
            pause = response.headers.get("Retry-After", "")
            if re.fullmatch(r"[1-9]|[1-5][0-9]|60", pause):  # seconds; a longer one is not waited for
                raise ThrottledError(message, str(status), float(pause))
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
            raise LostError(f"{url}: not JSON ({error})") from None

    def get(self, url: str) -> requests.Response:
        headers = {}
        if url.startswith(GITHUB_API):
            headers["Accept"] = f"application/vnd.github{'.raw' if '/contents/' in url else ''}+json"
            if self.token:
                headers["Authorization"] = f"Bearer {self.token}"
        timeout = (CONNECT_TIMEOUT, WEB_TIMEOUT)
        return self.session.get(url, headers=headers, timeout=timeout, proxies=get_environ_proxies(url))

    def explain(self, url: str, error: Exception, seconds: float) -> Exception:
        message = f"{url}: {words_of(error)}"
        hint = certificate_hint(error, self.ca)
        if hint:
            return Refusal(message + hint)
        if isinstance(error, (requests.ConnectionError, requests.Timeout, ChunkedEncodingError, ContentDecodingError)):
            return LostError(message, seconds=seconds)
        return OutsideError(message)


def explain_github_error(response: requests.Response, missing: str, token: bool) -> str:
    """What a refusal of GitHub means, in its own words, and what to do; `missing` explains a 404.

    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    status, headers = response.status_code, response.headers
    if status == 404 and missing:
        return missing
    words = re.search(rb'"message": *"([^"]*)"', response.content)
    if headers.get("X-RateLimit-Remaining") == "0":
        reset = headers.get("X-RateLimit-Reset", "")
        at = datetime.fromtimestamp(int(reset), timezone.utc) if re.fullmatch("[0-9]{1,11}", reset) else "the next hour"
        remedy = f"the API rate limit is used up until {at}: run again then, or set GITHUB_TOKEN"
    elif status == 429 or "Retry-After" in headers:
        seconds = one_line(headers.get("Retry-After", 3600))
        remedy = f"a rate limit: run again after {seconds} seconds" + ("" if token else ", or set GITHUB_TOKEN")
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
        self.ca = environment.ecs_ca
        key = (environment.key_id, environment.secret)
        timeouts = {"connect_timeout": CONNECT_TIMEOUT, "timeout": ECS_TIMEOUT}
        self.client = AcsClient(*key, region, auto_retry=False, verify=self.ca, **timeouts)
        # The SDK brings a requests and urllib3 of 2019, which send no server name from Python 3.12 on.
        self.client.session = new_session(self.ca, REGION_WORKERS + 1)

    def look(self, ids: Iterable[str]) -> Look:
        """Look at up to 100 images. The answer may list images of other accounts, too: see Seen.own."""
        return self.list_page(DescribeImagesRequest, ImageId=",".join(dict.fromkeys(ids)), Status=EVERY_STATUS)

    def look_at_snapshots(self, ids: Iterable[str]) -> Look:
        return self.list_page(DescribeSnapshotsRequest, SnapshotIds=json.dumps(list(ids)))

    def own_images(self) -> dict[str, Seen]:
        return self.list_all(DescribeImagesRequest, ImageOwnerAlias="self", Status=EVERY_STATUS)

    def marked_snapshots(self, release: str) -> list[str]:
        """The IDs of the snapshots that a run for this release has marked."""
        listed = self.list_all(DescribeSnapshotsRequest, Tags=[{"Key": MARK, "Value": release}])
        return [id for id, seen in listed.items() if seen.mark == release]

    def list_all(self, request_type: type[Any], **filters: Any) -> dict[str, Seen]:
        """All pages of a listing, each asked for again until it comes."""

        def fetch(page: int) -> dict[str, Seen]:
            return insist(partial(self.list_page, request_type, page, **filters), self.patience).seen

        return read_pages(fetch, DESCRIBE_LIMIT)

    def list_page(self, request_type: type[Any], page: int = 1, **filters: Any) -> Look:
        """A page of a listing. One that does not hold what its TotalCount promises is a lost answer."""
        at = read_clocks()
        answer = self.call(request_type, PageSize=DESCRIBE_LIMIT, PageNumber=page, **filters)
        kind = "Image" if request_type is DescribeImagesRequest else "Snapshot"
        try:
            seen = {str(each[f"{kind}Id"]): parse_resource(each) for each in answer[f"{kind}s"][kind]}
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

    def call(self, request_type: type[Any], done_already: Collection[str] = (), **parameters: Any) -> dict[str, Any]:
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
        result = "ok"
        try:
            body = self.client.do_action_with_exception(request)
            answer = json.loads(body)
            if not (isinstance(answer, dict) and answer.get("RequestId")):
                raise TypeError(f"unexpected answer {excerpt(body)}")
            return answer
        except Exception as error:
            # An answer that the SDK does not expect ends in an exception of any type within it.
            failure = self.explain(operation, error, time.monotonic() - started)
            result = str(failure)
            if failure.code in done_already:
                return {}
            raise failure from None
        finally:
            if log.isEnabledFor(logging.DEBUG):
                about = one_line([value for name, value in parameters.items() if name.endswith(("Id", "Ids"))])
                seconds = time.monotonic() - started
                log.debug("%s %s %s: %s in %.3f s", self.region, operation, about, result, seconds)

    def explain(self, operation: str, error: Exception, seconds: float) -> OutsideError:
        if isinstance(error, ServerException):
            code, status = one_line(error.get_error_code()), error.get_http_status()
            said, request_id = one_line(error.get_error_msg()), one_line(error.get_request_id())
            message = f"{operation}: {code} (HTTP status {status}, {said}, RequestId {request_id})"
            if "Throttling" in code:
                # It stays refused until the next minute begins. A second more, for clocks that differ.
                return ThrottledError(message, code, 61 - (time.time() - seconds) % 60)
            if CREDENTIALS_REFUSED.fullmatch(code) or PERMISSION_LACKING.fullmatch(code):
                return DeniedError(f"ecs:{message}", code)
            if status >= 500 or status in (408, 429) or PASSING.fullmatch(code):
                return LostError(message, code, seconds)
            return OutsideError(message, code)
        words = words_of(error.get_error_msg() if isinstance(error, ClientException) else error)
        hint = certificate_hint(error, self.ca)
        if hint:
            return DeniedError(f"{self.host}: {words}{hint}", CERTIFICATE)
        return LostError(f"{operation}: {words}", seconds=seconds)


# Steps 1 and 2: the history of rhcos.json


def fetch_all(fetch: Callable[[Any], Any], items: Collection[Any], what: str) -> Outcomes:
    """Fetch something from the web for each item side by side; returns what came, or the error."""
    outcomes: Outcomes = {}
    progress.begin(what, len(items), outcomes)
    pool = ThreadPoolExecutor(WEB_WORKERS)
    try:
        work_off_or_fail(items, outcomes, partial(try_each, fetch, pool), len(items), Patience())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return outcomes


def list_commits(web: Web, release: str) -> list[str]:
    """List the SHAs of the commits on the release's branch that touched rhcos.json, newest first.

    The list may be cut short, with status 200 (NixOS/nixpkgs-committers#100), so it is believed only if it ends with
    the oldest commit. https://docs.github.com/rest/commits/commits#list-commits
    """
    progress.begin("branches listed", 1)
    url = f"{GITHUB_API}/commits?sha=release-{release}&path={STREAM_METADATA}&per_page={COMMITS_PER_PAGE}"
    missing = f"openshift/installer has no branch release-{release}: check the release"

    def fetch(page: int) -> dict[str, None]:
        answer = insist(partial(web.get_json, f"{url}&page={page}", missing), Patience())
        return {COMMIT.fullmatch(commit["sha"])[0]: None for commit in as_list(answer)}  # type: ignore[index]

    try:
        commits = list(read_pages(fetch, COMMITS_PER_PAGE))
    except (OutsideError, KeyError, TypeError) as error:
        raise Refusal(f"GitHub did not list the commits ({error}): try again later") from None
    if commits[-1:] != [OLDEST_COMMIT]:
        raise Refusal(
            f"GitHub's list of the commits that changed rhcos.json on release-{release} is incomplete: its "
            f"{len(commits)} commits do not end with the oldest one, {OLDEST_COMMIT[:7]}: run again later"
        )
    return commits


def find_bootimages(web: Web, name: str) -> tuple[Release, list[str]]:
    """Find what the versions of rhcos.json on the release's branch name, and the directories of the release's builds.

    A build is named wherever its ID stands, for whichever platform or architecture.
    """
    bootimages: set[str] = set()
    images: dict[str, Image] = {}
    directories: dict[str, None] = {}
    versions = fetch_all(partial(fetch_version, web), list_commits(web, name), "versions of rhcos.json")
    for commit, version in versions.items():
        if isinstance(version, OutsideError):
            raise Refusal(f"rhcos.json of commit {commit} could not be read: {version}; try again later")
        try:
            images.update((image.id, image) for image in find_named_images(version))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = one_line(repr(error))
            raise Refusal(
                f"rhcos.json of commit {commit} is not the stream metadata that this program knows ({reason}): what to "
                "keep is unknown"
            ) from None
        bootimages.update(build for build in find_values(version, "release") if isinstance(build, str))
        bootimages.update(match[0] for match in BUILD_ID.finditer(json.dumps(version)))
        directories.update(dict.fromkeys(find_directories(version, name)))
    if not images:
        raise Refusal(f"no version of rhcos.json on release-{name} names an Aliyun bootimage: check the release")
    counts = f"{len(bootimages)} builds and {len(images)} Aliyun images"
    log.info("%d versions of rhcos.json on release-%s name %s", len(versions), name, counts)
    return Release(name, frozenset(bootimages), images, images), list(directories)


def fetch_version(web: Web, commit: str) -> Any:
    """Fetch rhcos.json of a commit.

    raw.githubusercontent.com costs no budget of the API, but has a limit that no token lifts (mozilla/cargo-vet#672).
    A 404 is never believed: on 2025-08-08 it answered that for files that existed (aquaproj/aqua-registry#39883).
    """
    if web.token:
        return web.get_json(f"{GITHUB_API}/contents/{STREAM_METADATA}?ref={commit}")
    return web.get_json(f"{GITHUB_RAW}/{commit}/{STREAM_METADATA}")


def find_named_images(version: Any) -> Iterator[Image]:
    """Find the Aliyun images in one version of CoreOS stream metadata.

    `architectures.<arch>.images.aliyun.regions.<region>` is {"release": build, "image": ID}; most architectures have no
    Aliyun images, some no images at all. Every version names a build of x86_64: one without is not whole.
    """
    x86_64 = find_values(version["architectures"]["x86_64"]["artifacts"], "release")
    if not any(BUILD_ID.fullmatch(str(build)) for build in x86_64):
        raise ValueError("no build of x86_64")
    for architecture in version["architectures"].values():
        for region, entry in architecture.get("images", {}).get("aliyun", {}).get("regions", {}).items():
            if not isinstance(entry["release"], str):
                raise TypeError(f"release {excerpt(entry['release'])} is not a string")
            yield parse_image(entry["release"], region, entry["image"])


def find_directories(version: object, release: str) -> Iterator[str]:
    """Find the directories of the store that hold builds of this release, by the locations of their artifacts.

    A branch inherits versions that name the previous release's builds. Their directories are left out: another branch
    names the bootimages in them. The host is ignored: older versions name one that no longer exists, with equal paths.
    """
    for location in find_values(version, "location"):
        match = DIRECTORY.search(location) if isinstance(location, str) else None
        if match and is_of_release(match[2], release) and match[3] in ECS_ARCHITECTURES:
            yield match[1]


def is_of_release(build: str, release: str) -> bool:
    """Whether the ID is of this release: those of 4.10 begin with `410.`."""
    return build.startswith(release.replace(".", "") + ".")


# Step 3: every build


def find_builds(web: Web, release: str, named: Collection[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Find every build in the directories that the history names and in the usual ones.

    Returns the builds with the URLs of their meta.json, one per architecture that ECS offers, and the named directories
    that the store does not have.
    """
    usual = [directory.format(release=release) for directory in USUAL_DIRECTORIES]
    builds: dict[str, list[str]] = defaultdict(list)
    listings = fetch_all(partial(fetch_listing, web), list(dict.fromkeys([*named, *usual])), "builds.json")
    missing = {directory for directory, listing in listings.items() if getattr(listing, "code", "") in ("403", "404")}
    for directory, listing in listings.items():
        if directory in missing:
            continue
        if isinstance(listing, OutsideError):
            raise Refusal(f"the builds could not be listed: {listing}; try again later")
        for build, urls in listing.items():
            builds[build] += urls
    if len(missing) == len(listings):
        raise Refusal(f"the store has no builds.json of release {release}: check the release")
    for directory in missing.intersection(named):
        log.error("%s: rhcos.json names it, but the store has no builds.json there: its builds are left", directory)
    return dict(sorted(builds.items(), reverse=True)), sorted(missing.intersection(named))


def fetch_listing(web: Web, directory: str) -> dict[str, list[str]]:
    """Fetch a builds.json: each build with the URLs of its meta.json.

    `{"builds": [{"id": ..., "arches": ["x86_64"]}], "tombstone-builds": [...]}`; the tombstones are builds that
    coreos-assembler pruned, without deleting their Aliyun images.
    """
    url = f"{STORE}/{directory}/builds.json"
    listing = web.get_json(url)
    builds: dict[str, list[str]] = defaultdict(list)
    try:
        for build in as_list(listing["builds"]) + as_list(listing.get("tombstone-builds", [])):
            arches = [arch for arch in ECS_ARCHITECTURES if arch in as_list(build["arches"])]
            builds["" + build["id"]] += [f"{STORE}/{directory}/{build['id']}/{arch}/meta.json" for arch in arches]
    except (AttributeError, KeyError, TypeError):
        raise Refusal(f"{url}: not a list of builds; try again later") from None
    return builds


def reason_to_skip(build: str, release: Release) -> str:
    """Why the images of a build are not considered for deletion, or an empty string."""
    if build in release.bootimages:
        return BOOTIMAGE
    match = BUILD_ID.fullmatch(build)
    try:
        built = datetime.strptime(f"{match[1]}+0000", "%Y%m%d%H%M%z") if match else None
    except ValueError:
        built = None
    if built is None:
        return NO_DATE
    if not is_of_release(build, release.name):
        return OTHER_RELEASE
    return TOO_YOUNG if datetime.now(timezone.utc) - built < YOUNG else ""


# Step 4: the images of each build


def find_uploads(
    web: Web, builds: dict[str, list[str]], release: Release, record: Record
) -> tuple[dict[str, list[Image]], Errors]:
    """Find the images that each build uploaded: of bootimages, and of builds to prune that are not on record.

    Also returns the builds that could not be read completely, with the error.
    """
    reasons = {build: reason_to_skip(build, release) for build in builds}
    to_read = [build for build, why in reasons.items() if why == BOOTIMAGE or (not why and build not in record)]

    def fetch(build: str) -> list[Image]:
        return [image for url in builds[build] for image in fetch_uploads(web, build, url)]

    outcomes = fetch_all(fetch, to_read, "builds")
    unread = {build: outcome for build, outcome in outcomes.items() if isinstance(outcome, OutsideError)}
    log_failures(unread)
    return {build: outcomes[build] for build in to_read if build not in unread}, unread


def fetch_uploads(web: Web, build: str, url: str) -> list[Image]:
    """Fetch the images from a meta.json of coreos-assembler.

    It is an object with the build's ID in `buildid`, and `"aliyun": [{"name": region, "id": ID}]` if there are images.
    """
    if not URL_SEGMENT.fullmatch(build):
        raise OutsideError(f"{excerpt(build)} is not a build ID")
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
        return f"its name {excerpt(seen.name)} does not contain the ID of a build that a builds.json lists"
    return reason_to_skip(build, release)


def is_to_tag(outcome: Outcome) -> bool:
    """Whether this is a bootimage of the account without its tag."""
    seen = outcome.seen
    return outcome.reason == BOOTIMAGE and seen is not None and seen.own and seen.tag != "true"


class Region:
    """Steps 5 and 6 in one region: look, decide, act, and look again. `outcomes` has the results."""

    def __init__(self, environment: Environment, args: argparse.Namespace, name: str, bootimages: list[Image]) -> None:
        self.name = name
        self.ecs = Ecs(name, environment)
        self.pool = ThreadPoolExecutor(REGION_WORKERS)
        self.args = args
        self.bootimages = bootimages  # that rhcos.json names
        self.images: list[Image] = []  # to look at
        self.error: Exception | None = None  # why the region cannot be pruned
        self.witness = ""  # ID of an image of the account that no run deletes
        self.outcomes: Outcomes = {}
        self.seen: dict[str, Seen] = {}  # images by ID, as last seen
        self.tagged: set[str] = set()  # images and snapshots that this run tagged: listings can lag behind
        self.mark_error: OutsideError | None = None
        self.mark_limit = TAG_LIMIT  # snapshots in the next call
        self.begun: set[Image] = set()  # images that this run has tried to delete

    def find_witness(self) -> None:
        """Make one of the bootimages the witness; raises OutsideError if none is listed as the account's own."""
        ids = [image.id for image in self.bootimages[:DESCRIBE_LIMIT]]
        self.seen = insist(lambda: self.ecs.look(ids), self.ecs.patience).seen
        self.witness = next((id for id in ids if id in self.seen and self.seen[id].own), "")
        if not self.witness:
            reason = f"none of the {len(ids)} bootimages there is listed as the account's own"
            raise OutsideError(f"{reason}: {self.check_policy('DescribeImages')}")

    def check_policy(self, operation: str) -> str:
        return f"check that the key's policy grants ecs:{operation} in {self.name}"

    def prune(self, release: Release) -> None:
        """Prune the images here, and add an outcome for each."""
        if self.error:
            raise self.error
        self.release = release
        own: dict[str, Seen] = {}
        try:
            own = self.ecs.own_images()
            self.check_witness(own)
        except OutsideError as error:
            if not self.witness:
                raise
            log.warning("%s: what no list names is unknown: %s", self.name, error)
        self.seen.update(own)
        # Without a bootimage, best one of no build at all: another release's run may delete its builds' images.
        others = [id for id in own if id not in release.known or id in release.images]
        self.witness = self.witness or min(others, key=lambda id: bool(BUILD_ID.search(own[id].name)), default="")
        self.warn_of_unlisted(own)
        # One that the record calls deleted, and that is there, is looked at again.
        listed = [release.known[id] for id in own if id in release.known]
        images = list(dict.fromkeys([*self.images, *(image for image in listed if image.region == self.name)]))
        self.step([image for image in images if image.id in release.images], self.prune_batch)
        self.step([image for image in images if image.id not in release.images], self.prune_batch)
        self.confirm_deletions()
        if self.args.delete_snapshots:
            self.sweep_snapshots()

    def step(self, items: Sequence[Image], work: Work) -> None:
        """Work off images or snapshots; if there is no hope for the rest, they fail.

        They come in random order: if the first ones can never be changed, that must not end every run.
        """
        shuffled = random.sample(items, len(items))
        work_off_or_fail(shuffled, self.outcomes, work, DESCRIBE_LIMIT - 1, self.ecs.patience)

    def warn_of_unlisted(self, own: dict[str, Seen]) -> None:
        """A failed replication leaves images that no meta.json names (coreos/coreos-assembler#3634)."""
        for id, image in own.items():
            build = BUILD_ID.search(image.name)
            if id not in self.release.known and build and build[0] in self.release.read:
                log.warning("%s %s (%s) stays: the meta.json of its build does not list it", self.name, id, build[0])

    def prune_batch(self, batch: list[Image], outcomes: Outcomes) -> Errors:
        """Look at up to 99 images, and do with each what has to be done."""
        look = self.look(batch)
        bootimages, to_delete = [], []
        for image in batch:
            outcome = self.decide(image, look.seen.get(image.id))
            if is_to_tag(outcome) and not self.args.dry_run:
                bootimages.append(image)
            elif outcome.result is Result.TO_DELETE and not self.args.dry_run:
                to_delete.append(image)
            else:
                outcomes[image] = outcome
        if self.tag(bootimages, "true", look):
            outcomes.update({image: Outcome(Result.KEPT, BOOTIMAGE, look.seen[image.id]) for image in bootimages})
        if not (self.tag(to_delete, "false", look) and self.mark_snapshots(to_delete, look)):
            return {}
        return try_each(partial(self.delete_image, look), self.pool, to_delete, outcomes)

    def look(self, images: Iterable[Image]) -> Look:
        """Look at up to 99 images and the witness. An answer without the witness is no answer."""
        look = self.ecs.look([image.id for image in images] + [self.witness] * bool(self.witness))
        self.check_witness(look.seen)
        self.seen.update(look.seen)
        return look

    def check_witness(self, seen: dict[str, Seen]) -> None:
        if self.witness and not (self.witness in seen and seen[self.witness].own):
            reason = f"{self.witness}, which should be there, is not listed"
            raise LostError(f"{reason}: {self.check_policy('DescribeImages')}")

    def decide(self, image: Image, seen: Seen | None) -> Outcome:
        """Decide what happens to an image after a look at it."""
        if seen:
            reason = reason_to_keep(image, seen, self.release)
            return Outcome(Result.KEPT if reason else Result.TO_DELETE, reason, seen)
        if not self.witness:
            return Outcome(Result.KEPT, NOT_LISTED)
        if image in self.begun:  # The answer to its deletion was lost.
            image_log.info("%s deleted", image)
            return Outcome(Result.DELETED, "", self.seen[image.id])
        return Outcome(Result.GONE, BOOTIMAGE if image.id in self.release.images else "no longer listed")

    # Step 6: tag, make private, delete, and look again

    def tag(self, images: Sequence[Image], value: str, look: Look) -> bool:
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

    def mark_snapshots(self, images: Sequence[Image], look: Look) -> bool:
        """Mark the snapshots behind images, so that a later run finds them; returns False if the look is too old.

        If one cannot be marked, its batch is halved until it is found, even if the look becomes too old meanwhile. A
        refusal stops no deletion: it is one warning.
        """
        behind = dict.fromkeys(id for image in images for id in look.seen[image.id].snapshots)
        pending = deque(batches([id for id in behind if id not in self.tagged], self.mark_limit))
        while pending and not isinstance(self.mark_error, DeniedError):
            if not look.is_fresh():
                return False
            batch = pending.popleft()
            try:
                self.ecs.tag("snapshot", batch, MARK, self.release.name)
            except (LostError, ThrottledError):
                raise
            except OutsideError as error:
                if len(batch) > 1 and not isinstance(error, DeniedError):
                    self.mark_limit = len(batch) // 2
                    pending.extend(batches(batch, self.mark_limit))
                    continue
                if not self.mark_error:
                    log.warning(
                        "%s: a snapshot could not be marked, so that only the log names it: %s", self.name, error
                    )
                self.mark_error, self.mark_limit = error, TAG_LIMIT
            self.tagged.update(batch)
        return True

    def delete_image(self, look: Look, image: Image) -> Outcome | None:
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
        image_log.info("%s deleted", image)
        return Outcome(Result.DELETED, "", seen)

    def deleted_images(self) -> dict[Image, Seen]:
        """The images that this run deleted, or would delete, as they were last seen."""
        outcomes = [(image, outcome) for image, outcome in self.outcomes.items() if isinstance(outcome, Outcome)]
        results = (Result.DELETED, Result.TO_DELETE)
        return {image: outcome.seen for image, outcome in outcomes if outcome.seen and outcome.result in results}

    def confirm_deletions(self) -> None:
        """Look again until no deleted image is listed any more, or none has left the listing for five minutes."""
        deleted = {} if self.args.dry_run else self.deleted_images()
        gone: Outcomes = {}
        patience = replace(self.ecs.patience, rounds=CONFIRM_ROUNDS, longest_pause=LONGEST_CONFIRM_PAUSE)
        patience.silence = "still listed five minutes after the deletion"
        work_off_or_fail(deleted, gone, self.confirm_batch, DESCRIBE_LIMIT - 1, patience)
        self.outcomes.update({image: error for image, error in gone.items() if isinstance(error, OutsideError)})

    def confirm_batch(self, batch: list[Image], gone: Outcomes) -> Errors:
        seen = self.look(batch).seen
        gone.update((image, True) for image in batch if image.id not in seen)
        return {}

    def sweep_snapshots(self) -> None:
        """Delete the snapshots behind the images that this run deleted, and those that any run has marked."""
        deleted = self.deleted_images().values()
        behind = dict.fromkeys(Snapshot(self.name, id) for seen in deleted for id in seen.snapshots)
        try:
            # An empty list is believed only if there is permission to look.
            insist(partial(self.look_at_snapshots, []), self.ecs.patience)
            marked = self.ecs.marked_snapshots(self.release.name)
        except OutsideError as error:
            self.outcomes.update(dict.fromkeys(behind or [Snapshot(self.name, "of earlier runs")], error))
        else:
            to_sweep = behind | dict.fromkeys(Snapshot(self.name, id) for id in marked)
            self.step(list(to_sweep), partial(self.sweep_batch, behind))

    def look_at_snapshots(self, snapshots: Iterable[Snapshot]) -> Look:
        """Look at up to 99 snapshots, and at the one behind the witness. An answer without that one is no answer."""
        witness = self.seen[self.witness].snapshots[:1] if self.witness in self.seen else ()
        ids = [*(snapshot.id for snapshot in snapshots), *witness]
        look = self.ecs.look_at_snapshots(ids) if ids else Look({}, read_clocks())
        if not look.seen.keys() >= set(witness):
            reason = f"the snapshot behind {self.witness} is not listed"
            raise LostError(f"{reason}: {self.check_policy('DescribeSnapshots')}")
        return look

    def sweep_batch(self, behind: Collection[Snapshot], batch: list[Snapshot], outcomes: Outcomes) -> Errors:
        """Look at up to 99 snapshots, and delete what nobody pinned and is marked, or `behind` images of this run."""
        look = self.look_at_snapshots(batch)
        to_delete = []
        for snapshot in batch:
            if snapshot.id not in look.seen:
                outcomes[snapshot] = Outcome(Result.GONE)
            elif look.seen[snapshot.id].pinned:
                outcomes[snapshot] = Outcome(Result.KEPT, PINNED)
            elif look.seen[snapshot.id].mark != self.release.name and snapshot not in behind:
                outcomes[snapshot] = Outcome(Result.KEPT, "no longer marked")
            elif self.args.dry_run:
                outcomes[snapshot] = Outcome(Result.TO_DELETE)
            else:
                to_delete.append(snapshot)
        return try_each(partial(self.delete_snapshot, look), self.pool, to_delete, outcomes)

    def delete_snapshot(self, look: Look, snapshot: Snapshot) -> Outcome | None:
        """Delete a snapshot, unless something was made from it; None if the look has become too old for that."""
        if not look.is_fresh():
            return None
        try:
            self.ecs.delete_snapshot(snapshot.id)
        except OutsideError as error:
            if error.code not in ("SnapshotCreatedImage", "SnapshotCreatedDisk"):
                raise
            return Outcome(Result.KEPT, error.code)
        image_log.info("%s deleted", snapshot)
        return Outcome(Result.DELETED)


def call_in_regions(function: Callable[[Region], None], regions: Iterable[Region]) -> Iterator[Region]:
    """Call function with each region in a thread; yield each as it ends, with what went wrong in its `error`."""

    def call(region: Region) -> Region:
        try:
            function(region)
        except Exception as error:
            region.error = error
        return region

    pool = ThreadPoolExecutor(MOST_REGIONS)
    futures = [pool.submit(call, region) for region in regions]
    pool.shutdown(wait=False)
    return (future.result() for future in as_completed(futures))


def check_account(regions: Sequence[Region]) -> None:
    """Find the witness of each region; refuse if there is none at all: the credentials are those of another account."""
    if not regions:
        raise Refusal("all regions in which rhcos.json names images are closed: nothing of this release is left")
    progress.begin("regions checked", len(regions))
    for region in call_in_regions(Region.find_witness, regions):
        error = region.error
        code = error.code if isinstance(error, DeniedError) else ""
        if code == CERTIFICATE:
            raise Refusal(str(error))
        if CREDENTIALS_REFUSED.fullmatch(code):
            remedy = "check ALIYUN_ACCESS_KEY_ID, ALIYUN_ACCESS_KEY_SECRET and this machine's clock"
            raise Refusal(f"Alibaba Cloud refused the credentials: {error}: {remedy}")
    if all(isinstance(region.error, (LostError, ThrottledError)) for region in regions):
        raise Refusal(f"no region answered: check network and proxy ({regions[0].name}: {regions[0].error})")
    if all(region.error for region in regions):
        raise Refusal(
            "none of the bootimages is listed as the account's own: check that ALIYUN_ACCESS_KEY_ID belongs to the "
            "account that RHCOS images are uploaded to, and that its policy grants ecs:DescribeImages "
            f"({regions[0].name}: {regions[0].error})"
        )


def prune_regions(regions: Sequence[Region], release: Release) -> dict[Image, Outcome]:
    """Prune all regions side by side; logs the outcomes of each region when it is done, and returns them all."""
    results: dict[Image, Outcome] = {}
    total = sum(len(region.images) for region in regions)
    what = "images and snapshots" if any(region.args.delete_snapshots for region in regions) else "images"
    progress.begin(what, total, *(region.outcomes for region in regions))
    for region in call_in_regions(lambda region: region.prune(release), regions):
        if region.error and not isinstance(region.error, OutsideError):
            region.error = OutsideError(log_unexpected(region.name, region.error))
        if region.error:
            failed = [image for image in region.images if image.id not in release.images]
            failed = failed or [Image(region.name, "all bootimages")]
            region.outcomes.update({image: region.error for image in failed if image not in region.outcomes})
            region.outcomes.update(dict.fromkeys(region.deleted_images(), region.error))  # No look has confirmed it.
        outcomes = dict(region.outcomes)  # After an unexpected error, calls under way may still add to it.
        log_outcomes(region, outcomes)
        for image, outcome in outcomes.items():
            if isinstance(outcome, OutsideError):
                outcome = Outcome(Result.FAILED, "", region.seen.get(image.id))
            results[image] = outcome
    return results


def log_outcomes(region: Region, outcomes: Outcomes) -> None:
    """Log what was not logged when it happened: what failed, what stays and why, what a dry run would change."""
    failures = {image: outcome for image, outcome in outcomes.items() if isinstance(outcome, OutsideError)}
    log_failures(failures, f"{region.name}: ")
    for image, outcome in sorted(outcomes.items(), key=lambda item: str(item[0])):
        if image in failures:
            continue
        if region.args.dry_run and is_to_tag(outcome):
            log.info("%s would be tagged bootimage=true", image)
        elif region.args.dry_run and outcome.result is Result.TO_DELETE:
            tagged = "" if isinstance(image, Snapshot) else "tagged bootimage=false, "
            private = "made private, " if outcome.seen and outcome.seen.public else ""
            log.info("%s would be %s%sdeleted", image, tagged, private)
        elif outcome.reason == BOOTIMAGE and not (outcome.seen and outcome.seen.own):
            log.warning("%s is a bootimage, but it is not in the account", image)
        elif outcome.result is Result.GONE:
            image_log.info("%s is already gone", image)
        elif outcome.result is Result.KEPT and outcome.reason != BOOTIMAGE:
            (image_log.info if isinstance(image, Snapshot) else log.warning)("%s is kept: %s", image, outcome.reason)


def log_failures(failures: Errors, where: str = "") -> None:
    """Log which images, snapshots or builds failed, one line for each reason."""
    by_reason: dict[tuple[str, str], dict[str, OutsideError]] = defaultdict(dict)
    for item, error in failures.items():
        kind = {Image: "images", Snapshot: "snapshots"}.get(type(item), "builds")
        by_reason[kind, error.code or str(error)][str(getattr(item, "id", item))] = error
    for (kind, _), failed in by_reason.items():
        names = f" ({', '.join(failed)})" if len(failed) <= MOST_NAMES else ""
        error = next(iter(failed.values()))
        log.error("%s%s left for the next run: %s%s: %s", where, kind, f"{len(failed):,}", names, error)


# Step 7: the record


def load_record(path: str) -> Record:
    """Load the record of earlier runs; it is empty if there is no file."""
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        check_record(record)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refusal(f"the record {path} cannot be read: {error.strerror}; give another --filename") from None
    except (ValueError, RecursionError) as error:
        raise Refusal(
            f"{path} is not a record of this program: {error}; repair it, or give another --filename"
        ) from None
    return cast(Record, record)


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


def update_record(
    record: Record, uploads: dict[str, list[Image]], release: Release, results: dict[Image, Outcome]
) -> Record:
    """The record with this run's results; an entry of an image that this run has not seen stays as it is."""
    gone = {
        image: outcome.result in (Result.DELETED, Result.GONE)
        for image, outcome in results.items()
        if outcome.seen or outcome.result is Result.GONE
    }
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
        with locked_folder(path):
            existed = os.path.exists(path)
            with open(path, "rb") if existed else io.BytesIO(b"{}\n") as file:
                replace_file(path, file.read())
            if not existed:
                os.unlink(os.path.realpath(path))
    except OSError as error:
        remedy = "give another --filename, and in a container mount the folder of the record, not the file"
        raise Refusal(f"the record {path} cannot be replaced: {error.strerror}; {remedy}") from None


def save_record(path: str, update: Callable[[Record], Record]) -> None:
    """Update the record as it is now: another run may have written to it since this one read it."""
    try:
        with locked_folder(path):
            replace_file(path, (json.dumps(update(load_record(path)), indent=2) + "\n").encode())
    except (OSError, Refusal) as error:
        said = f"the record {path} could not be written, and is unchanged: {error}"
        raise OutsideError(f"{said}; the next run will find the deleted images gone") from None


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


def replace_file(path: str, content: bytes) -> None:
    """Replace a file in one step: whoever reads it, at any moment, sees the old content or the new one."""
    path = os.path.realpath(path)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    with replacing:
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if os.path.exists(path):
                shutil.copystat(path, temporary)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


# The run as a whole


def run(args: argparse.Namespace) -> int:
    """Do the seven steps; returns the exit status: 0, or 1 if some images were not pruned."""
    environment = read_environment()
    record = load_record(args.filename)
    if not args.dry_run:
        check_replaceable(args.filename)
    web = Web(environment)

    release, directories = find_bootimages(web, args.release)
    new_region = partial(Region, environment, args)
    bootimages = group_by_region(release.images.values())
    regions = {name: new_region(name, named) for name, named in bootimages.items() if name not in CLOSED_REGIONS}
    check_account(list(regions.values()))
    builds, missing = find_builds(web, args.release, directories)
    uploads, unread = find_uploads(web, builds, release, record)

    release, to_look_at = find_images(release._replace(builds=builds), uploads, record)
    by_region = group_by_region(to_look_at)
    for name in {image.region for image in release.known.values()} - CLOSED_REGIONS.keys():
        regions[name] = regions.get(name) or new_region(name, [])
        regions[name].images = by_region[name]
    results = prune_regions(list(regions.values()), release)
    for name, date in CLOSED_REGIONS.items():
        closed = (image for image in by_region[name] if image.id not in release.images)
        results.update((image, Outcome(Result.GONE, f"region closed on {date}")) for image in closed)

    if not args.dry_run:
        complete = {} if missing else uploads  # A build can lie in two directories.
        save_record(args.filename, partial(update_record, uploads=complete, release=release, results=results))
    for line in summarize(results, release, record, args):
        log.info("%s", line)
    if missing or unread or any(outcome.result is Result.FAILED for outcome in results.values()):
        log.error("not everything was pruned: fix the errors above and run the same command again")
        return 1
    return 0


def find_images(release: Release, uploads: dict[str, list[Image]], record: Record) -> tuple[Release, list[Image]]:
    """Complete what is known of the release; returns it, and the images to look at."""
    pending = [image for images in uploads.values() for image in images]
    deleted: list[Image] = []
    for build, entries in record.items():
        for entry in entries if is_of_release(build, release.name) else ():
            (deleted if entry["deleted"] else pending).append(Image(entry["region"], entry["image"], build))
    listed = deleted + pending
    bootimages = {image.id: image for image in listed if image.build in release.bootimages} | release.images
    known = {image.id: image for image in listed} | bootimages
    release = release._replace(images=bootimages, known=known, read=uploads.keys() | record.keys())
    return release, list(dict.fromkeys([*bootimages.values(), *pending]))


def group_by_region(images: Iterable[Image]) -> dict[str, list[Image]]:
    grouped: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        grouped[image.region].append(image)
    return grouped


def summarize(
    results: dict[Image, Outcome], release: Release, record: Record, args: argparse.Namespace
) -> Iterator[str]:
    """What the run did, or would do, line by line: bootimages, builds, a table of the regions, totals."""
    kept = [image for image, (_, reason, seen) in results.items() if reason == BOOTIMAGE and seen and seen.own]
    regions = Counter(build for build, _ in {(image.build, image.region) for image in kept})
    for build in sorted(release.bootimages & regions.keys()):
        yield f"bootimage {build}: {regions[build]} regions"
    yield f"bootimages kept: {len(kept):,}"
    with_images = {image.build for image in release.known.values()}
    builds: Counter[str] = Counter()
    for build in release.builds:
        found = "to prune" if build in with_images else "without images" if build in release.read else "not read"
        builds[reason_to_skip(build, release) or ("on record" if build in record else found)] += 1
    yield f"builds: {len(release.builds)} ({format_counts(builds)})"
    success = Result.TO_DELETE if args.dry_run else Result.DELETED
    others = {image: outcome for image, outcome in results.items() if outcome.reason != BOOTIMAGE}
    yield from format_table(others, [success, Result.GONE, Result.KEPT, Result.FAILED])
    left = 0
    for kind in ("images", "snapshots"):
        outcomes = [
            outcome for image, outcome in others.items() if isinstance(image, Snapshot) == (kind == "snapshots")
        ]
        left += sum(len(o.seen.snapshots) for o in outcomes if o.result is success and o.seen)
        for result in Result:
            of_result = Counter(outcome.reason for outcome in outcomes if outcome.result is result)
            if of_result or (result is success and (kind == "images" or args.delete_snapshots)):
                details = f" ({format_counts(of_result)})" if any(of_result) else ""
                yield f"{kind} {result.value}: {sum(of_result.values()):,}{details}"
    if left and not args.delete_snapshots:
        verb = "to leave" if args.dry_run else "left by this run"
        yield f"snapshots {verb}, still billed: {left:,} (a run with --delete-snapshots deletes all that are marked)"


def format_table(results: dict[Image, Outcome], columns: Sequence[Result]) -> Iterator[str]:
    """A row for each region, and the total."""
    counts: dict[str, Counter[Result]] = defaultdict(Counter)
    for image, outcome in results.items():
        if not isinstance(image, Snapshot):
            counts[image.region][outcome.result] += 1
    total: Counter[Result] = sum(counts.values(), Counter())
    if counts:
        yield f"{'region':15}" + "".join(f"{column.value:>{len(column.value) + 2}}" for column in columns)
    for row, of_row in [*sorted(counts.items()), *([("total", total)] if counts else [])]:
        yield f"{row:15}" + "".join(f"{of_row[column]:{len(column.value) + 2},}" for column in columns)


def format_counts(counts: Counter[str]) -> str:
    """The keys with their numbers, the most frequent first; an empty key says nothing."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {key}" for key, count in ordered if key)


# Output, signals, arguments


class RedactingFormatter(logging.Formatter):
    """Redacts credentials, and lets no foreign text forge a line or control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in record.message)
        return super().formatMessage(record)


class LogFile(logging.FileHandler):
    """The log file. If a line cannot be written to it, the run ends: what a change leaves would be named nowhere."""

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
        """Replace the status line; an empty one leaves the terminal clean."""
        with self.lock or contextlib.nullcontext():
            # An echoed ^C must fit behind it, or the line is wrapped and cannot be cleared.
            self.write("", status[: shutil.get_terminal_size().columns - 3])

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
    if not sys.stdout.isatty():
        return logging.StreamHandler(sys.stdout)
    terminal = Terminal(sys.stdout)
    if not debug:
        terminal.addFilter(lambda record: record.name == log.name or record.levelno >= logging.WARNING)
    return terminal


def start_log(path: str, debug: bool) -> None:
    """Log to stdout and, with time and time zone, to the file."""
    try:
        log_file = LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        sys.exit(f"main.py: error: the log {path} cannot be written: {error.strerror}; give another --log-to-file")
    log_file.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
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


def show_progress(work: Future[int]) -> None:
    """Show the progress until the work is done."""
    logged = time.monotonic()
    while wait([work], timeout=STATUS_SECONDS).not_done:
        show_status(str(progress))
        if time.monotonic() - logged >= PROGRESS_SECONDS:
            logged = time.monotonic()
            image_log.info("%s", progress)
    show_status("")


def log_end(status: int, log: logging.Logger = log) -> None:
    log.info("ended with status %d after %s", status, timedelta(seconds=round(time.monotonic() - progress.run_started)))


def log_unexpected(what: str, error: BaseException) -> str:
    """Log an exception that no part of this program expects; returns it as a reason."""
    reason = one_line(f"unexpected {error!r}")
    log.error("%s failed: %s: please report it, with the log of a run with --debug", what, reason)
    log.debug("%s", what, exc_info=error)
    return reason


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
    end_process(128 + signum, f"interrupted by {name} ({progress}): run the same command again to continue")


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
    parser.add_argument(
        "--filename",
        type=file_path,
        default="deleted_images.json",
        help="Path to file where bootimage data can be recorded; will allow for faster execution if script is run "
        "multiple times",
    )
    parser.add_argument(
        "--log-to-file",
        type=file_path,
        default="aliyun_pruner.log",
        help="Filename to record all log output to",
    )
    parser.add_argument(
        "--delete-snapshots", action="store_true", help="Delete the snapshots behind the deleted images, too"
    )
    parser.add_argument("release", type=release_number, help="OCP release to operate on")
    args = parser.parse_args(argv)
    if os.path.realpath(args.filename) == os.path.realpath(args.log_to_file):
        parser.error("--filename and --log-to-file are the same file")
    return args


def attempt(args: argparse.Namespace) -> int:
    """Run, and turn every exception into a line of the log."""
    status = 1
    try:
        what = "dry run" if args.dry_run else "run"
        log.info("%s of release %s; record: %s, log: %s", what, args.release, args.filename, args.log_to_file)
        status = run(args)
    except Refusal as error:
        log.error("%s (nothing was changed)", error)
    except OutsideError as error:
        log.error("%s", error)
    except Exception as error:
        log_unexpected("the run", error)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Work in threads, so that this one is free for signals, and holds no lock then; returns the exit status."""
    args = parse_args(argv)
    start_log(args.log_to_file, args.debug)
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, end_at_once)
    work = ThreadPoolExecutor(1).submit(attempt, args)
    display = threading.Thread(target=show_progress, args=[work], daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads: go on without it
        display.start()
        display.join()
    log_end(work.result())
    return work.result()


if __name__ == "__main__":
    exit_status = main()
    # A reader that has gone must not change the exit status, and a call that hangs must not outlive the last line.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    os._exit(exit_status)
