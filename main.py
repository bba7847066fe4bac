#!/usr/bin/env python3
"""Delete the RHCOS images on Alibaba Cloud (Aliyun) that never became an OpenShift bootimage.

Every build of Red Hat CoreOS uploaded an image to some 25 regions. A build is a bootimage if any version of
`data/data/coreos/rhcos.json` on the release's branch of openshift/installer names it. Bootimages are kept; the images
of all other builds are tagged `bootimage=false`, made private and deleted. A run has seven steps:

1. `list_commits`      lists the commits on the release's branch that touched rhcos.json (GitHub)
2. `find_bootimages`   reads these versions: the builds and images to keep, and where the release's builds are
3. `find_builds`       reads every builds.json of the release (RHCOS store)
4. `find_uploads`      reads the meta.json of each build: the images that it uploaded, by region
5. `plan_regions`      looks at each image in the cloud and decides what happens to it (ECS)
6. `prune_region`      tags, makes private and deletes the images of one region, and confirms that they are gone
7. `save_record`       writes the results to deleted_images.json, for the next run

The record lists what each build uploaded; `deleted: false` is tried again by the next run:

    {"410.84.202112050307-0": [{"region": "us-east-1", "image": "m-2278ffe99a3b6169ae74", "deleted": true}]}

Only `Web` talks to GitHub and the store, only `Ecs` to Alibaba Cloud. Both retry. Only `reason_to_keep` decides whether
an image may be deleted. What a service does not show is not therefore gone: an image counts as gone only if the same
answer lists a witness, an image of the account that no run deletes.
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
import contextlib
import dataclasses
import errno
import fcntl
import io
import itertools
import json
import logging
import random
import re
import shutil
import ssl
import stat
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import cache, partial
from types import FrameType, MappingProxyType
from typing import IO, Any, NamedTuple, TypeVar, Union
from urllib.parse import unquote, urlsplit

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
    from requests.utils import get_environ_proxies
    from urllib3.exceptions import HTTPError, InvalidHeader
    from urllib3.response import BaseHTTPResponse
    from urllib3.util import Retry
except ImportError as error:
    sys.exit(f"main.py: error: {error}: install the packages of requirements.txt (pip install -r requirements.txt)")

INSTALLER_API = "https://api.github.com/repos/openshift/installer"
INSTALLER_RAW = "https://raw.githubusercontent.com/openshift/installer"
STREAM_METADATA = "data/data/coreos/rhcos.json"
STORE = "https://rhcos.mirror.openshift.com/art/storage"
COMMITS_PER_PAGE = 100  # the most that GitHub sends

# The directories of the store in which the builds of 4.10 to 4.18 were made, by `urls.rhcos_release_base` in the
# group.yml of openshift-eng/ocp-build-data. Each release has some of them, and rhcos.json does not name them all.
USUAL_DIRECTORIES = (
    "releases/rhcos-{release}",
    "releases/rhcos-{release}-aarch64",
    "prod/streams/{release}/builds",
    "prod/streams/{release}-9.2/builds",
    "prod/streams/{release}-9.4/builds",
)

# The architectures that ECS offers.
ECS_ARCHITECTURES = ("x86_64", "aarch64")

# The vendor closed these regions on that day, with all that was in them (The Register, 2024-07-01).
CLOSED_REGIONS = {
    "ap-south-1": "2024-07-15",
    "ap-southeast-2": "2024-09-30",
}

# A build may become a bootimage weeks later: over 66 bumps (4.10 to 4.18) the lag was 1 day (median), 16 days (most).
YOUNG = timedelta(days=30)

WEB_WORKERS = 16
REGION_WORKERS = 4
MOST_REGIONS = 40  # more than Alibaba Cloud has

DESCRIBE_LIMIT = 100  # DescribeImages and DescribeSnapshots: the largest PageSize
TAG_LIMIT = 50  # TagResources: the most ResourceIds

# Do not act on a look at an image that is older than this: somebody may have pinned the image since.
LOOK_SECONDS = 60

CONNECT_TIMEOUT = 10  # seconds
WEB_TIMEOUT = 20  # seconds without a byte
ECS_TIMEOUT = 40  # seconds; the SDK's own table grants DescribeImages 38 and DeleteImage 36

PROGRESS_SECONDS = 30
STATUS_SECONDS = 0.5  # between two updates of the status line on a terminal
FAREWELL_SECONDS = 1  # A signal ends the process even if its last line cannot be written.

RETRIES = 8
READ_RETRIES = 4  # of a request to GitHub or the store whose answer did not come; each may take WEB_TIMEOUT
LONGEST_BACKOFF = 5.0  # seconds; eight retries take about 23 seconds
LONGEST_RETRY_AFTER = 60.0  # seconds
RETRY_SECONDS = 60  # Retry no longer than this if each attempt ends in a timeout.
OUTAGE_FAILURES = 5  # A service is down if this many different calls in a row failed, retries included.
THROTTLED_SECONDS = 15 * 60  # Give up an operation that was throttled this long without one success.

LOCK_SECONDS = 30

SHORTEST_SECRET = 8  # characters; a shorter one cannot be redacted without garbling the log

RETRIED_STATUSES = (429, 500, 502, 503, 504)

# A deleted image can stay in the listing for minutes: seconds between checks, five minutes in total.
CONFIRMATION_PAUSES = (1, 2, 4, 8, 15, 30, 60, 60, 60, 60)

OPERATIONS = (
    "DescribeImages",
    "TagResources",
    "ModifyImageSharePermission",
    "DeleteImage",
    "DescribeSnapshots",
    "DeleteSnapshot",
)

# A tag can take seconds until it is listed: seconds between checks.
TAG_PAUSES = (0, 1, 2, 4, 8)

# Without Status, DescribeImages leaves out every image that is not Available.
EVERY_STATUS = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"

# Error codes of https://api.alibabacloud.com/document/Ecs/2014-05-26/errorCode
CREDENTIALS_REFUSED = re.compile(
    r"InvalidAccessKeyId(\..+)?|InvalidAccessKeySecret|SignatureDoesNotMatch|IncompleteSignature"
    r"|Forbidden(\.AccessKey|\.AccessKeyDisabled|\.RiskControl|\.UserVerification)?"
    r"|NoEnabledAccessKey|InvalidSecurityToken.*|MissingSecurityToken|InvalidTimeStamp\.Expired"
)
PERMISSION_LACKING = re.compile(r"Forbidden\.RAM|Forbidden\.NotSupportRAM|NoPermission.*")

# Foreign data becomes part of URLs, of host names and of comma-separated lists: only safe characters are accepted.
BUILD_ID = re.compile(r"[0-9]+\.[0-9]+\.([0-9]{12})-[0-9]+")
URL_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
IMAGE_ID = re.compile(r"[A-Za-z0-9_-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
DIRECTORY = re.compile(r"/art/storage/([A-Za-z0-9._/-]+)/([^/]+)/([^/]+)/[^/]+$")

# Reasons to keep an image
BOOTIMAGE = "bootimage"
NO_DATE = "no date in the build ID"
OTHER_RELEASE = "build of another release"
TOO_YOUNG = f"build younger than {YOUNG.days} days"
UNMARKED = "no longer tagged bootimage=false"  # a reason to keep a snapshot
IMAGE_STAYS = "behind an image that stays"  # a reason to keep a snapshot
UNLISTED = "left: no builds.json lists its build"
MARK = {"Key": "bootimage", "Value": "false"}  # the tag of a snapshot that is to be deleted
ON_RECORD = "on record already"  # the reason not to read a build's meta.json

Record = dict[str, list[dict[str, Any]]]
AnyResource = TypeVar("AnyResource", bound="Resource")
Item = TypeVar("Item")
Value = TypeVar("Value")

log = logging.getLogger("rhcos-aliyun-pruner")
image_log = log.getChild("images")  # a line for each image and snapshot: in the log file, but not on a terminal


@dataclasses.dataclass(frozen=True)
class Image:
    """An image as listed in rhcos.json, meta.json or the record; region and ID identify it.

    `builds` are the builds that list it, not what the cloud says.
    """

    region: str
    id: str
    builds: tuple[str, ...] = dataclasses.field(compare=False)

    def __str__(self) -> str:
        return f"{self.region} {self.id} ({', '.join(self.builds)})"


class Snapshot(NamedTuple):
    """A snapshot behind an image."""

    region: str
    id: str

    def __str__(self) -> str:
        return f"{self.region} {self.id}"


Resource = Union[Image, Snapshot]


class Release(NamedTuple):
    """What this run knows about the release: all that `reason_to_keep` rests on, apart from the look at the image."""

    name: str  # such as 4.10
    bootimages: frozenset[str]  # the builds that any version of rhcos.json names
    named_images: dict[str, Image]  # the images that it names, by ID
    # Every build in a builds.json, with the URLs of its meta.json
    builds: Mapping[str, list[str]] = MappingProxyType({})


class CloudImage(NamedTuple):
    """An image as DescribeImages shows it."""

    own: bool
    public: bool
    in_use: bool
    pinned: bool
    tag: str | None  # the value of its tag `bootimage`
    name: str
    snapshots: tuple[str, ...]


class Instant(NamedTuple):
    """A moment on two clocks: the monotonic one stands still while the machine sleeps, the wall clock can be set."""

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Instant:
        return cls(time.monotonic(), time.time())

    def age(self) -> float:
        """Seconds since then, by the clock that says more."""
        return max(time.monotonic() - self.monotonic, time.time() - self.wall)


class Result(Enum):
    TO_DELETE = "to delete"
    DELETED = "deleted"
    GONE = "already gone"
    CLOSED = "gone with a closed region"
    KEPT = "kept"
    MISSING = "missing although they are bootimages"
    LEFT = "left"  # neither seen nor shown to be gone
    FAILED = "failed"
    WAITING = "waiting for the next run"  # not touched, because the region or an operation there was given up


class Outcome(NamedTuple):
    """The result for one image or snapshot, with the reason if there is one, and how the cloud showed the image."""

    result: Result
    reason: str = ""
    seen: CloudImage | None = None


Outcomes = dict[Resource, Outcome]


class Look(NamedTuple):
    """The answer of one DescribeImages call: the images it lists, by ID, and the outcome of those that it does not."""

    images: dict[str, CloudImage]
    absent: Outcome
    at: Instant


class Refusal(Exception):
    """The run ends before it changes anything; the message says why and what to do."""


class OutsideError(Exception):
    """A service refused a call, did not answer, or sent an unexpected answer."""


class MissingError(OutsideError):
    """The service answered that it does not have this document."""


class GivenUpError(OutsideError):
    """The call was not made, because an earlier one showed that it would fail."""


class OutdatedError(OutsideError):
    """The call was not made, because the look that it rests on is too old."""


class EcsError(OutsideError):
    """An ECS call failed; `code` is the API's error code, or empty if there was no answer."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class DeniedError(EcsError):
    """The credentials were refused, or they lack the permission for this operation."""


class CertificateError(EcsError):
    """The server's certificate could not be verified. No attempt will mend that."""


class ThrottledError(EcsError):
    """The call was refused because there were too many in this minute."""


class LostError(EcsError):
    """No answer, an unexpected one, or an error of the server: the call may or may not have been carried out."""


# Shared by all steps


class Progress:
    """How far the current phase has come, and which regions wait because they are throttled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.throttled: dict[str, float] = {}  # until when (seconds since the epoch), by region
        self.run_started = time.monotonic()
        self.begin("starting", 0)

    def begin(self, what: str, total: int, regions: int = 0) -> None:
        """Begin a phase that works on so many items, in so many regions."""
        self.what, self.total, self.regions = what, total, regions
        self.done = self.failures = self.regions_done = 0
        self.started = time.monotonic()

    def advance(self, count: int = 1) -> None:
        with self.lock:
            self.done += count
            self.total = max(self.total, self.done)  # A sweep may find more snapshots than were planned.

    def fail(self) -> None:
        with self.lock:
            self.failures += 1

    def time_left(self) -> str:
        if not self.done:
            return "unknown"
        seconds = (time.monotonic() - self.started) / self.done * (self.total - self.done)
        return str(timedelta(seconds=round(seconds)))

    def waiting(self) -> str:
        """The regions that are throttled, and until when (local time); empty if none is."""
        waiting = {region: until for region, until in list(self.throttled.items()) if until > time.time()}
        if not waiting:
            return ""
        until = datetime.fromtimestamp(max(waiting.values())).strftime("%H:%M:%S")
        return f"{len(waiting)} throttled until {until}: {' '.join(sorted(waiting))}"

    def __str__(self) -> str:
        regions = f", regions {self.regions_done}/{self.regions}" if self.regions else ""
        return f"{self.what} {self.done:,}/{self.total:,}, failed {self.failures:,}{regions}"

    def status(self) -> str:
        """For a status line: what is cut off on a narrow terminal comes last."""
        return f"{self}, {self.waiting() or f'time left {self.time_left()}'}"


progress = Progress()


def backoff(failures: int) -> float:
    """Seconds to wait after this many failures in a row: exponential from 0.25 s, capped, with up to 50% jitter."""
    return float(min(LONGEST_BACKOFF, 0.25 * 2 ** (failures - 1)) * random.uniform(0.5, 1))


def in_parallel(
    function: Callable[[Item], Value], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Future[Value]]]:
    """Run function on each item in threads; yield each item with its finished future, in the order they finish."""
    pool = ThreadPoolExecutor(max(1, workers))
    futures = {pool.submit(function, item): item for item in items}
    try:
        for future in as_completed(futures):
            yield futures.pop(future), future
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def parse_json(text: str | bytes, **options: Any) -> Any:
    """Parse JSON; raises ValueError for anything else, nesting too deep to read included."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("nested too deeply") from None


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
        raise TypeError(f"{value!a:.60} is not a list")
    return value


def parse_image(build: str, region: object, image: object) -> Image:
    """Make an Image of foreign data; raises ValueError unless region and ID look like those of ECS."""
    if not (isinstance(region, str) and REGION.fullmatch(region)):
        raise ValueError(f"{region!a:.60} is not a region")
    if not (isinstance(image, str) and IMAGE_ID.fullmatch(image)):
        raise ValueError(f"{image!a:.60} is not an image ID")
    return Image(region, image, (build,))


@cache  # A build has some 25 images, and each of them asks.
def built_at(build: str) -> datetime | None:
    """The time in the third field of a build ID (410.84.202207061638-0, UTC), or None if it has none."""
    match = BUILD_ID.fullmatch(build)
    try:
        return datetime.strptime(match[1], "%Y%m%d%H%M").replace(tzinfo=timezone.utc) if match else None
    except ValueError:
        return None


def is_of_release(build: str, release: str) -> bool:
    """Whether the ID is of this release: those of 4.10 begin with `410.`."""
    return build.startswith(release.replace(".", "") + ".")


def one_line(text: object) -> str:
    """Foreign text for a message: redacted, cut, and without line breaks and control characters."""
    words = " ".join(str(text).split())
    line = redact("".join(char if char.isprintable() else ascii(char)[1:-1] for char in words))
    return line if len(line) <= 300 else f"{line[:300]}..."


def redact(text: str) -> str:
    """Redact credentials, which API errors and SDK URLs contain."""
    for secret, name in find_secrets():
        text = text.replace(secret, f"<{name}>")
    return re.sub(r"Signature=[^&\s'\")]+", "Signature=<redacted>", text)


def find_secrets() -> Iterator[tuple[str, str]]:
    """Secrets in the environment, with the name of their variable. Shorter ones are refused: see read_secret."""
    for name in ("ALIYUN_ACCESS_KEY_ID", "ALIYUN_ACCESS_KEY_SECRET", "GITHUB_TOKEN"):
        secret = os.environ.get(name, "").strip()
        if len(secret) >= SHORTEST_SECRET:
            yield secret, name
    for name in proxy_variables():
        user_and_password = re.match(r"(?:[^/]*//)?(.*)@", os.environ[name])
        for secret in [user_and_password[1], user_and_password[1].partition(":")[2]] if user_and_password else []:
            if len(secret) >= SHORTEST_SECRET:
                yield secret, name
                yield unquote(secret), name


class LogFile(logging.FileHandler):
    """The log file; `error` is why a line could not be written to it."""

    error = ""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        self.error = self.error or one_line(sys.exc_info()[1])


def check_log() -> None:
    """Raise GivenUpError if a line is missing in the log file: what a change leaves behind would be known nowhere."""
    for handler in log.handlers:
        if isinstance(handler, LogFile) and handler.error:
            raise GivenUpError(f"the log cannot be written: {handler.error}")


# Services


class Outage:
    """Shared by the callers of a service: after several calls in a row that failed, the next ones fail at once."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.verdict = ""
        self.failures = 0
        self.lock = threading.Lock()

    def check(self) -> None:
        if self.verdict:
            raise GivenUpError(self.verdict)

    def succeed(self) -> None:
        self.failures = 0

    def fail(self, error: OutsideError) -> None:
        with self.lock:
            self.failures += 1
            if self.failures >= OUTAGE_FAILURES:
                self.give_up(f"{self.service} failed {self.failures} times in a row ({error})")

    def give_up(self, verdict: str) -> None:
        self.verdict = self.verdict or verdict


class Operation(Outage):
    """One ECS operation in one region. Once throttled, it is refused until the next minute, for all workers."""

    def __init__(self, region: str, name: str) -> None:
        super().__init__(f"ecs:{name}")
        self.region = region
        self.name = name
        self.throttled_until = self.throttled_since = 0.0  # monotonic; 0 if it is not throttled

    def wait(self) -> None:
        """Wait for the minute in which the operation is allowed again."""
        while (seconds := self.throttled_until - time.monotonic()) > 0:
            time.sleep(seconds)

    def succeed(self) -> None:
        super().succeed()
        self.throttled_since = 0.0

    def throttle(self, until: float, error: ThrottledError) -> None:
        with self.lock:
            self.throttled_until = max(self.throttled_until, until)
            progress.throttled[self.region] = time.time() + until - time.monotonic()
            self.throttled_since = self.throttled_since or time.monotonic()
            if time.monotonic() - self.throttled_since >= THROTTLED_SECONDS:
                minutes = THROTTLED_SECONDS // 60
                self.give_up(f"{self.service} was throttled for {minutes} minutes without one success ({error})")


class BoundedRetry(Retry):
    """urllib3's Retry, without sleeping for as long as Retry-After says, and without retrying a certificate error."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        try:
            seconds = super().get_retry_after(response)
        except (InvalidHeader, OverflowError, ValueError):
            return None
        return None if seconds is None else min(seconds, LONGEST_RETRY_AFTER)

    def increment(
        self, method: Any = None, url: Any = None, response: Any = None, error: Any = None, *rest: Any, **options: Any
    ) -> BoundedRetry:
        if is_certificate_error(error):
            raise error
        return super().increment(method, url, response, error, *rest, **options)


class Environment(NamedTuple):
    """The environment variables that a run uses, checked."""

    key_id: str
    secret: str
    github_token: str
    web_ca: CaBundle
    ecs_ca: CaBundle


class CaBundle(NamedTuple):
    """The CA certificates to verify with: `verify` is what requests takes, never an empty string, which switches
    verification off. Without a variable these are the certificates that come with requests."""

    variable: str = ""
    verify: str | bool = True

    def __str__(self) -> str:
        return f"{self.variable}={self.verify}" if self.variable else "the CA certificates of the package certifi"


def read_environment() -> Environment:
    """Read and check the environment variables; no message contains a value."""
    check_proxies()
    return Environment(
        key_id=read_secret("ALIYUN_ACCESS_KEY_ID", required=True),
        secret=read_secret("ALIYUN_ACCESS_KEY_SECRET", required=True),
        github_token=read_secret("GITHUB_TOKEN"),
        web_ca=read_ca_bundle("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        ecs_ca=read_ca_bundle("ALIBABA_CLOUD_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    )


def read_secret(name: str, required: bool = False) -> str:
    value = os.environ.get(name, "").strip()
    if not value and required:
        raise Refusal(f"the environment variable {name} is not set, or empty: set it to the account's access key")
    if value and not (re.fullmatch(r"[!-~]+", value) and len(value) >= SHORTEST_SECRET):
        raise Refusal(
            f"the environment variable {name} is malformed: it must be at least {SHORTEST_SECRET} printable ASCII "
            "characters without spaces"
        )
    return value


def read_ca_bundle(*names: str) -> CaBundle:
    """The first of these variables that is set and not empty."""
    for name in names:
        path = os.environ.get(name, "")
        if not path:
            continue
        try:
            if not os.path.isdir(path):
                ssl.create_default_context(cafile=path)
        except (OSError, ValueError) as error:
            raise Refusal(
                f"the environment variable {name} does not name a readable file of CA certificates "
                f"({type(error).__name__}): correct or unset it; in a container, mount the file"
            ) from None
        return CaBundle(name, path)
    return CaBundle()


def proxy_variables() -> list[str]:
    return [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]


def check_proxies() -> None:
    for name in proxy_variables():
        value = os.environ[name].strip()
        try:
            url = urlsplit(value if "://" in value else f"http://{value}")
            host = (url.hostname or "").encode("idna")
            well_formed = host and url.scheme in ("http", "https") and url.path in ("", "/") and url.port != 0
        except ValueError:
            well_formed = False
        if value and (not well_formed or url.query or url.fragment or not re.fullmatch(r"[!-~]+", value)):
            raise Refusal(
                f"the environment variable {name} is malformed: give it in the form http://USER:PASSWORD@HOST:PORT, "
                "with special characters in user and password percent-encoded"
            )


def new_session(ca: CaBundle, **adapter_options: Any) -> requests.Session:
    """A session for HTTPS only. It reads neither ~/.netrc, which would replace GITHUB_TOKEN, nor the environment."""
    session = requests.Session()
    session.trust_env = False
    session.verify = ca.verify
    del session.adapters["http://"]
    session.mount("https://", HTTPAdapter(**adapter_options))
    return session


class Web:
    """GitHub and the RHCOS store over kept-alive connections.

    GITHUB_TOKEN is sent to api.github.com only. That host is not asked again after a 429: its limit is by the hour
    (https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api).
    """

    def __init__(self, environment: Environment) -> None:
        self.ca = environment.web_ca
        self.api = self.session(retried=RETRIED_STATUSES[1:], respect_retry_after_header=False)
        self.api.headers["Accept"] = "application/vnd.github+json"
        if environment.github_token:
            self.api.headers["Authorization"] = f"Bearer {environment.github_token}"
        self.files = self.session(retried=RETRIED_STATUSES)
        self.outages: dict[str, Outage] = {}

    def session(self, retried: Collection[int], **options: Any) -> requests.Session:
        retry = BoundedRetry(
            total=RETRIES,
            read=READ_RETRIES,
            backoff_factor=0.25,
            backoff_max=LONGEST_BACKOFF,
            backoff_jitter=0.25,
            status_forcelist=retried,
            raise_on_status=False,
            **options,
        )
        return new_session(self.ca, pool_maxsize=WEB_WORKERS, max_retries=retry)

    def get(self, url: str) -> requests.Response:
        """GET a URL and return the response, whatever its status. Raises OutsideError if there is none."""
        session = self.api if url.startswith("https://api.github.com/") else self.files
        for failures in range(1, RETRIES + 2):
            started = time.monotonic()
            try:
                response = session.get(url, timeout=(CONNECT_TIMEOUT, WEB_TIMEOUT), proxies=get_environ_proxies(url))
            except requests.exceptions.ChunkedEncodingError as error:
                # The connection was lost within the body, which urllib3 does not retry.
                lost = error
                time.sleep(backoff(failures))
            except (requests.RequestException, HTTPError, ValueError) as error:
                # The last two come from redirects to malformed URLs.
                raise OutsideError(f"{url}: {innermost(error)}{ca_hint(error, self.ca)}") from None
            else:
                log.debug("GET %s: %s in %.3f s", url, response.status_code, time.monotonic() - started)
                return response
        raise OutsideError(f"{url}: {innermost(lost)}")

    def get_json(self, url: str, missing: Collection[int]) -> Any:
        """GET a JSON document. Raises MissingError for the statuses that say that the host does not have it."""
        host = urlsplit(url).netloc
        outage = self.outages.setdefault(host, Outage(host))
        outage.check()
        try:
            response = self.get(url)
            if response.status_code in RETRIED_STATUSES:
                raise OutsideError(f"{url}: HTTP status {response.status_code}")
        except OutsideError as error:
            outage.fail(error)
            raise
        outage.succeed()
        if response.status_code in missing:
            raise MissingError(f"{url}: HTTP status {response.status_code}")
        if response.status_code != 200:
            raise OutsideError(f"{url}: HTTP status {response.status_code}")
        try:
            return parse_json(response.content)
        except ValueError as error:
            raise OutsideError(f"{url}: not JSON ({error})") from None


def innermost(error: BaseException) -> str:
    """The cause that requests and urllib3 wrap into exceptions of several layers, as one line."""
    while True:
        inner = getattr(error, "reason", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            return one_line(f"{type(error).__name__}: {error}")
        error = inner


def is_certificate_error(error: object) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def ca_hint(error: object, ca: CaBundle) -> str:
    hint = f"; it was verified with {ca}: set REQUESTS_CA_BUNDLE to a file with the right CA"
    return hint if is_certificate_error(error) else ""


class Ecs:
    """The ECS API (2014-05-26) of one region, for several threads.

    Every call is retried after a lost connection, a 5xx or throttling, so each must be safe to repeat. A change takes
    the look that it rests on, and raises OutdatedError if that is too old. Once an operation is given up, nothing is
    changed in this region any more.
    """

    def __init__(self, region: str, environment: Environment, delete_snapshots: bool = False) -> None:
        self.region = region
        self.marked: set[Snapshot] = set()  # that this run has tagged `bootimage=false`
        self.not_found: set[tuple[Image, str]] = set()  # what a TagResources call did not find, with the image
        self.delete_snapshots = delete_snapshots  # whether the snapshots behind deleted images are deleted, too
        # Every region has an endpoint of this name; the SDK would ask another service for those that it does not know.
        self.host = f"ecs.{region}.aliyuncs.com"
        self.ca = environment.ecs_ca
        self.has_bootimages = False  # whether rhcos.json names images in this region
        self.witness = ""  # ID of an image of the account that no run deletes
        self.operations = {name: Operation(region, name) for name in OPERATIONS}
        self.client = AcsClient(
            environment.key_id,
            environment.secret,
            region,
            auto_retry=False,
            connect_timeout=CONNECT_TIMEOUT,
            timeout=ECS_TIMEOUT,
            verify=self.ca.verify,
        )
        # The SDK brings a requests and urllib3 of 2019, which send no server name from Python 3.12 on.
        self.client.session = new_session(self.ca, pool_maxsize=REGION_WORKERS + 1)

    def look(self, ids: Sequence[str]) -> Look:
        """Look at up to 99 images. The answer may list images of other accounts, too: see CloudImage.own."""
        asked = [*ids, self.witness] if self.witness else ids
        images, total, at = self.describe(ImageId=",".join(dict.fromkeys(asked)))
        if total != len(images):
            raise EcsError(f"DescribeImages listed {len(images)} images of {total}")
        if at.age() > LOOK_SECONDS:
            raise EcsError(f"DescribeImages took more than {LOOK_SECONDS} seconds to answer")
        return Look(images, self.outcome_of_absence(images), at)

    def outcome_of_absence(self, images: dict[str, CloudImage]) -> Outcome:
        """The outcome for an image that an answer does not list, judged by the images that it does list."""
        own = {id for id, image in images.items() if image.own}
        if self.witness in own or (own and not self.has_bootimages and not self.witness):
            return Outcome(Result.GONE)
        if self.has_bootimages:
            return Outcome(
                Result.WAITING, f"bootimage {self.witness} is not listed either: {self.permission_to_look()}"
            )
        return Outcome(Result.LEFT, "not listed, but neither is any image of the account in this region")

    def permission_to_look(self) -> str:
        return f"check that the key's policy grants ecs:DescribeImages in {self.region}"

    def own_images(self) -> Collection[str]:
        """IDs of up to 100 images of the account."""
        images, _, _ = self.describe(ImageOwnerAlias="self")
        return images

    def describe(self, **filters: Any) -> tuple[dict[str, CloudImage], Any, Instant]:
        answer, at = self.call(DescribeImagesRequest, PageSize=DESCRIBE_LIMIT, Status=EVERY_STATUS, **filters)
        try:
            images = {str(image["ImageId"]): parse_cloud_image(image) for image in answer["Images"]["Image"]}
            return images, answer["TotalCount"], at
        except (KeyError, TypeError, AttributeError):
            raise EcsError("DescribeImages sent an unexpected answer") from None

    def tag(self, ids: Sequence[str], value: str, look: Look | None = None, resource: str = "image") -> None:
        """Tag up to 50 images or snapshots `bootimage=value`. One that cannot be tagged fails the whole call."""
        tags = [{"Key": "bootimage", "Value": value}]
        self.call(TagResourcesRequest, look, ResourceType=resource, ResourceIds=ids, Tags=tags)

    def has_forgotten(self, id: str, look: Look) -> bool:
        """Whether the API says that it does not know a deleted image; needed if the region has no witness left."""
        try:
            self.call(DeleteImageRequest, look, ImageId=id)
        except EcsError as error:
            return error.code == "InvalidImageId.NotFound"
        except OutdatedError:
            pass  # The next check asks again.
        return False

    def marked_snapshots(self) -> list[Snapshot]:
        """All snapshots that are tagged `bootimage=false`."""
        marked: dict[Snapshot, bool] = {}
        page = 1
        while True:
            listed, total, _ = self.describe_snapshots(Tags=[MARK], PageNumber=page)
            if page * DESCRIBE_LIMIT < total and listed.keys() <= marked.keys():
                raise EcsError(f"DescribeSnapshots lists nothing new on page {page}, but {total} snapshots in total")
            marked.update(listed)
            if page * DESCRIBE_LIMIT >= total:
                return list(marked)
            page += 1

    def look_at_snapshots(self, snapshots: Sequence[Snapshot]) -> tuple[dict[Snapshot, bool], Look]:
        """Which of up to 100 snapshots are marked; one that is not listed is absent."""
        listed, _, at = self.describe_snapshots(SnapshotIds=json.dumps([snapshot.id for snapshot in snapshots]))
        return listed, Look({}, Outcome(Result.GONE), at)

    def describe_snapshots(self, **filters: Any) -> tuple[dict[Snapshot, bool], int, Instant]:
        """The snapshots on one page, each with whether it is marked, and the number on all pages."""
        answer, at = self.call(DescribeSnapshotsRequest, PageSize=DESCRIBE_LIMIT, **filters)
        try:
            listed = {
                Snapshot(self.region, str(each["SnapshotId"])): parse_tags(each).get("bootimage") == "false"
                for each in answer["Snapshots"]["Snapshot"]
            }
            if not isinstance(answer["TotalCount"], int):
                raise TypeError("TotalCount is not a number")
        except (AttributeError, KeyError, TypeError):
            raise EcsError("DescribeSnapshots sent an unexpected answer") from None
        return listed, answer["TotalCount"], at

    def delete_snapshot(self, id: str, look: Look) -> None:
        """Delete a snapshot; one that is gone already is success. Never by Force."""
        self.change(DeleteSnapshotRequest, look, ["InvalidSnapshotId.NotFound"], SnapshotId=id)

    def make_private(self, id: str, look: Look) -> None:
        """Unpublish a community image; one that is private or gone already is success."""
        done_already = ["Image.NotPublic", "InvalidImageId.NotFound"]
        self.change(ModifyImageSharePermissionRequest, look, done_already, ImageId=id, IsPublic="false")

    def delete(self, id: str, look: Look) -> None:
        """Delete a private image; one that is gone already is success. Never by Force."""
        self.change(DeleteImageRequest, look, ["InvalidImageId.NotFound"], ImageId=id)

    def change(self, request_type: type[Any], look: Look, done_already: Sequence[str], **parameters: Any) -> None:
        """Call an operation; an error code that says that there is nothing left to do is success."""
        try:
            self.call(request_type, look, **parameters)
        except EcsError as error:
            if error.code not in done_already:
                raise

    def check(self) -> None:
        """Raise GivenUpError if nothing can be changed in this region any more."""
        for operation in self.operations.values():
            operation.check()

    def call(self, request_type: type[Any], look: Look | None = None, **parameters: Any) -> tuple[Any, Instant]:
        """Call an operation until it is carried out or refused; returns the answer and when the call was sent.

        Raises an EcsError if it failed, GivenUpError or OutdatedError if it was not made.
        """
        operation = self.operations[request_type.__name__[: -len("Request")]]
        failures, first_failure = 0, 0.0
        while True:
            operation.wait()
            operation.check()
            if look is not None:
                self.check()
                check_log()
                if look.at.age() > LOOK_SECONDS:
                    raise OutdatedError("the look at the image is too old")
            sent = Instant.now()
            try:
                answer = self.attempt(operation.name, request_type, parameters)
            except ThrottledError as error:
                # A second more, for clocks that differ.
                operation.throttle(sent.monotonic + 61 - sent.wall % 60, error)
            except DeniedError as error:
                operation.give_up(str(error))
                raise DeniedError(operation.verdict, error.code) from None
            except LostError as error:
                failures += 1
                first_failure = first_failure or sent.monotonic
                if failures > RETRIES or time.monotonic() - first_failure > RETRY_SECONDS:
                    operation.fail(error)
                    raise
                time.sleep(backoff(failures))
            except EcsError:
                operation.succeed()
                raise
            else:
                operation.succeed()
                return answer, sent

    def attempt(self, operation: str, request_type: type[Any], parameters: dict[str, Any]) -> dict[str, Any]:
        request = request_type()
        request.set_protocol_type(protocol_type.HTTPS)
        request.set_endpoint(self.host)
        for name, value in parameters.items():
            getattr(request, f"set_{name}")(value)
        started = time.monotonic()
        outcome = "ok"
        try:
            return parse_answer(self.client.do_action_with_exception(request))
        except Exception as error:
            # An answer that the SDK does not expect ends in an exception of any type within it.
            failure = self.parse_failure(operation, error)
            outcome = str(failure)
            raise failure from None
        finally:
            log.debug("%s %s: %s in %.3f s", self.region, operation, outcome, time.monotonic() - started)

    def parse_failure(self, operation: str, error: Exception) -> EcsError:
        if isinstance(error, ServerException):
            code, status = one_line(error.get_error_code()), error.get_http_status()
            message = f"{operation}: {code} (HTTP status {status}, {one_line(error.get_error_msg())})"
            if "Throttling" in code:
                return ThrottledError(message, code)
            if CREDENTIALS_REFUSED.fullmatch(code) or PERMISSION_LACKING.fullmatch(code):
                return DeniedError(f"ecs:{message}", code)
            return LostError(message, code) if status >= 500 else EcsError(message, code)
        message = f"{operation}: {lost_how(error)}"
        if is_certificate_error(error):
            return CertificateError(f"{self.host}: {message}{ca_hint(error, self.ca)}")
        if isinstance(error, ClientException) and error.get_error_code() != "SDK.HttpError":
            return EcsError(message)
        return LostError(message)


def parse_answer(body: bytes) -> dict[str, Any]:
    """Every answer of ECS is an object with a RequestId; raises ValueError for anything else, as a proxy's page."""
    answer = parse_json(body)
    if not (isinstance(answer, dict) and answer.get("RequestId")):
        raise ValueError(f"unexpected answer {body!r:.60}")
    return answer


def lost_how(error: Exception) -> str:
    """The SDK's message for a lost connection, without the URL of thousands of characters in front of the cause."""
    text = str(error.get_error_msg()) if isinstance(error, ClientException) else repr(error)
    cause = re.search(r"\(Caused by (.+)\)\s*$", text, re.DOTALL)
    return one_line(cause[1] if cause else text)


def parse_tags(resource: Any) -> dict[str, str]:
    return {str(tag["TagKey"]): str(tag["TagValue"]) for tag in resource.get("Tags", {}).get("Tag", [])}


def parse_cloud_image(image: Any) -> CloudImage:
    tags = parse_tags(image)
    disks = image.get("DiskDeviceMappings", {}).get("DiskDeviceMapping", [])
    return CloudImage(
        own=image.get("ImageOwnerAlias") == "self",
        public=bool(image.get("IsPublic")),
        in_use=image.get("Usage") == "instance",
        pinned=any(key.casefold() == "bootimage" and value.casefold() == "true" for key, value in tags.items()),
        tag=tags.get("bootimage"),
        name=str(image.get("ImageName", "")),
        snapshots=tuple(str(disk["SnapshotId"]) for disk in disks if disk.get("SnapshotId")),
    )


# Steps 1 and 2: the history of rhcos.json


def find_bootimages(web: Web, name: str) -> tuple[Release, list[str]]:
    """Find what the versions of rhcos.json on the release's branch name, and the directories of the release's builds.

    A build is named wherever its ID stands, for whichever platform or architecture.
    """
    documents = fetch_versions(web, list_commits(web, name))
    bootimages: set[str] = set()
    images: dict[str, Image] = {}
    directories: dict[str, None] = {}
    for commit, document in documents.items():
        try:
            images.update((image.id, image) for image in find_named_images(document))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refusal(
                f"rhcos.json of commit {commit} is not the stream metadata that this program knows ({error!r:.200}): "
                "what to keep is unknown"
            ) from None
        bootimages.update(build for build in find_values(document, "release") if isinstance(build, str))
        directories.update(dict.fromkeys(find_directories(document, name)))
    if not images:
        raise Refusal(f"no version of rhcos.json on release-{name} names an Aliyun bootimage: check the release")
    log.info(
        "%d versions of rhcos.json on release-%s name %d builds and %d Aliyun images",
        len(documents), name, len(bootimages), len(images),
    )  # fmt: skip
    return Release(name, frozenset(bootimages), images), list(directories)


def list_commits(web: Web, release: str) -> list[str]:
    """List the SHAs of the commits on the release's branch that touched rhcos.json, newest first.

    https://docs.github.com/rest/commits/commits#list-commits
    """
    progress.begin("branches listed", 1)
    url = f"{INSTALLER_API}/commits?sha=release-{release}&path={STREAM_METADATA}&per_page={COMMITS_PER_PAGE}"
    missing = f"openshift/installer has no branch release-{release}: check the release"
    commits = []
    for page in fetch_pages(web, url, missing):
        try:
            commits += [commit["sha"] for commit in page]
        except (KeyError, TypeError):
            raise Refusal(f"{url}: not a list of commits; try again later") from None
    if not all(isinstance(commit, str) and COMMIT.fullmatch(commit) for commit in commits):
        raise Refusal(f"{url}: not a list of commits; try again later")
    return commits


def fetch_pages(web: Web, url: str, missing: str) -> Iterator[Any]:
    """Yield the pages of a GitHub API result; `missing` explains a 404.

    Pages are linked by their `Link` header. A full page is not taken for the last one because it lacks that.
    """
    first, pages = url, []
    while url:
        try:
            response = web.get(url)
            refuse_github_errors(response, missing)
            page = parse_json(response.content)
        except (OutsideError, ValueError) as error:
            raise Refusal(f"GitHub's answer could not be read: {error}; try again later") from None
        if page in pages:
            raise Refusal(f"{url}: GitHub sends the same page again and again; try again later")
        pages.append(page)
        yield page
        url = response.links.get("next", {}).get("url", "")
        if not url and isinstance(page, list) and len(page) >= COMMITS_PER_PAGE:
            url = f"{first}&page={len(pages) + 1}"


def refuse_github_errors(response: requests.Response, missing: str) -> None:
    """https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"""
    status, headers = response.status_code, response.headers
    if status == 200:
        return
    if status == 401:
        raise Refusal("GitHub refused GITHUB_TOKEN: set a valid token, or unset it")
    if status == 404:
        raise Refusal(missing)
    if status in (403, 429) and headers.get("X-RateLimit-Remaining") == "0":
        raise Refusal(
            f"GitHub's API rate limit is used up until {reset_time(response)}: run again then, "
            "or set GITHUB_TOKEN for a higher limit"
        )
    if status == 429 or (status == 403 and ("Retry-After" in headers or "X-RateLimit-Remaining" in headers)):
        seconds = headers.get("Retry-After")
        when = f"after {seconds!a:.40} seconds (Retry-After)" if seconds else "in a few minutes"
        raise Refusal(f"GitHub's secondary rate limit is reached (HTTP status {status}): run again {when}")
    raise Refusal(f"{response.url}: HTTP status {status}; try again later")


def reset_time(response: requests.Response) -> str:
    try:
        reset = datetime.fromtimestamp(int(response.headers["X-RateLimit-Reset"]), timezone.utc)
    except (KeyError, ValueError, OverflowError, OSError):
        return "the next hour"
    return f"{reset:%Y-%m-%d %H:%M:%S} UTC"


def fetch_each(
    fetch: Callable[[Item], Value], items: Collection[Item], what: str
) -> Iterator[tuple[Item, Value | OutsideError]]:
    """Fetch something from the web for each item side by side; yield the item with the result, or with the error."""
    progress.begin(what, len(items))
    for item, future in in_parallel(fetch, items, WEB_WORKERS):
        progress.advance()
        try:
            yield item, future.result()
        except OutsideError as error:
            progress.fail()
            yield item, error


def fetch_versions(web: Web, commits: Sequence[str]) -> dict[str, Any]:
    """Fetch rhcos.json of each commit that did not remove it."""
    documents = {}

    def fetch(commit: str) -> Any:
        return web.get_json(f"{INSTALLER_RAW}/{commit}/{STREAM_METADATA}", missing=[404])

    for commit, document in fetch_each(fetch, commits, "versions of rhcos.json"):
        if isinstance(document, MissingError):
            refuse_unless_removed(web, commit)
            log.info("commit %s removed or renamed rhcos.json", commit)
        elif isinstance(document, OutsideError):
            raise Refusal(f"a version of rhcos.json could not be read: {document}; try again later")
        else:
            documents[commit] = document
    return documents


def refuse_unless_removed(web: Web, commit: str) -> None:
    """Refuse unless the commits API shows that this commit removed or renamed rhcos.json.

    A 404 alone is no proof: on 2025-08-08 raw.githubusercontent.com answered it for files that existed
    (aquaproj/aqua-registry#39883). https://docs.github.com/rest/commits/commits#get-a-commit
    """
    missing = f"GitHub has no commit {commit}; try again later"
    if not any(map(removes_stream_metadata, fetch_pages(web, f"{INSTALLER_API}/commits/{commit}", missing))):
        raise Refusal(
            f"rhcos.json of commit {commit} is missing (HTTP status 404), but the commit did not remove it; "
            "try again later"
        )


def removes_stream_metadata(page: Any) -> bool:
    files = page.get("files") if isinstance(page, dict) else None
    return isinstance(files, list) and any(
        isinstance(file, dict)
        and (
            (file.get("status") == "removed" and file.get("filename") == STREAM_METADATA)
            or (file.get("status") == "renamed" and file.get("previous_filename") == STREAM_METADATA)
        )
        for file in files
    )


def find_named_images(document: Any) -> Iterator[Image]:
    """Find the Aliyun images in one version of CoreOS stream metadata.

    `architectures.<arch>.images.aliyun.regions.<region>` is {"release": build, "image": ID}; most architectures have no
    Aliyun images, some no images at all.
    """
    for architecture in document["architectures"].values():
        for region, entry in architecture.get("images", {}).get("aliyun", {}).get("regions", {}).items():
            if not isinstance(entry["release"], str):
                raise TypeError(f"release {entry['release']!a:.60} is not a string")
            yield parse_image(entry["release"], region, entry["image"])


def find_directories(document: object, release: str) -> Iterator[str]:
    """Find the directories of the store that hold builds of this release, by the locations of their artifacts.

    A branch inherits versions that name the previous release's builds. Their directories are left out: another branch
    names the bootimages in them. The host is ignored: older versions name one that no longer exists, with equal paths.
    """
    for location in find_values(document, "location"):
        match = DIRECTORY.search(location) if isinstance(location, str) else None
        if match and is_of_release(match[2], release) and match[3] in ECS_ARCHITECTURES:
            yield match[1]


# Step 3: every build


def find_builds(web: Web, release: str, named: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Find every build in the directories that the history names and in the usual ones.

    Returns the builds with the URLs of their meta.json, one per architecture that ECS offers, and the named directories
    that the store does not have.
    """
    usual = [directory.format(release=release) for directory in USUAL_DIRECTORIES]
    builds: dict[str, list[str]] = {}
    missing = []
    found = False
    directories = list(dict.fromkeys([*named, *usual]))
    for directory, listing in fetch_each(partial(fetch_listing, web), directories, "builds.json"):
        if isinstance(listing, MissingError):
            if directory in named:
                missing.append(directory)
        elif isinstance(listing, OutsideError):
            raise Refusal(f"the builds could not be listed: {listing}; try again later")
        else:
            found = True
            for build, urls in listing.items():
                builds[build] = builds.get(build, []) + urls
    if not found:
        raise Refusal(f"the store has no builds.json of release {release}: check the release")
    for directory in missing:
        log.error("the builds in %s are left: rhcos.json names it, but the store has no builds.json there", directory)
    return dict(sorted(builds.items(), reverse=True)), missing


def fetch_listing(web: Web, directory: str) -> dict[str, list[str]]:
    """Fetch a builds.json: each build with the URLs of its meta.json.

    `{"builds": [{"id": ..., "arches": ["x86_64"]}], "tombstone-builds": [...]}`; the tombstones are builds that
    coreos-assembler pruned, without deleting their Aliyun images.
    """
    url = f"{STORE}/{directory}/builds.json"
    listing = web.get_json(url, missing=[403, 404])
    builds: dict[str, list[str]] = defaultdict(list)
    try:
        for build in as_list(listing["builds"]) + as_list(listing.get("tombstone-builds", [])):
            if not isinstance(build["id"], str):
                raise TypeError
            builds[build["id"]] += [
                f"{STORE}/{directory}/{build['id']}/{architecture}/meta.json"
                for architecture in ECS_ARCHITECTURES
                if architecture in as_list(build["arches"])
            ]
    except (AttributeError, KeyError, TypeError):
        raise OutsideError(f"{url}: not a list of builds") from None
    return builds


def reason_to_skip(build: str, release: str, record: Collection[str] = ()) -> str | None:
    """Why the images of a build are not considered for deletion, or None."""
    built = built_at(build)
    if built is None:
        return NO_DATE
    if not is_of_release(build, release):
        return OTHER_RELEASE
    if datetime.now(timezone.utc) - built < YOUNG:
        return TOO_YOUNG
    return ON_RECORD if build in record else None


# Step 4: the images of each build


def find_uploads(web: Web, builds: dict[str, list[str]], release: Release) -> tuple[dict[str, list[Image]], list[str]]:
    """Find the images that each build uploaded.

    Also returns the builds that could not be read completely, except those that no run will ever prune.
    """
    uploads: dict[str, list[Image]] = {}
    unread = []
    waiting: Counter[str] = Counter()

    def fetch(build: str) -> list[Image]:
        return [image for url in builds[build] for image in fetch_uploads(web, build, url)]

    for build, images in fetch_each(fetch, builds, "builds"):
        if not isinstance(images, OutsideError):
            uploads[build] = images
            continue
        reason = reason_to_skip(build, release.name)
        if reason in (NO_DATE, OTHER_RELEASE) and build not in release.bootimages:
            log.warning("build %a is kept (%s), but its images are unknown: %s", build[:60], reason, images)
            continue
        unread.append(build)
        if isinstance(images, GivenUpError):
            waiting[str(images)] += 1
        else:
            log.error("build %s is skipped: %s", build, images)
    for verdict, count in waiting.items():
        log.error("%d builds wait for the next run: %s", count, verdict)
    return {build: uploads[build] for build in builds if build in uploads}, sorted(unread)


def fetch_uploads(web: Web, build: str, url: str) -> list[Image]:
    """Fetch the images from a meta.json of coreos-assembler.

    It is an object with the build's ID in `buildid`, and `"aliyun": [{"name": region, "id": ID}]` if there are images.
    """
    if not URL_SEGMENT.fullmatch(build):
        raise OutsideError(f"{build!a:.60} is not a build ID")
    meta = web.get_json(url, missing=[])
    try:
        if meta["buildid"] != build:
            raise ValueError(f"its buildid is {meta['buildid']!a:.60}")
        return [parse_image(build, image["name"], image["id"]) for image in as_list(meta.get("aliyun", []))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OutsideError(f"{url}: not the meta.json of this build ({error!r:.200})") from None


# Step 5: look at every image, and decide


def recorded_images(record: Record, build: str) -> list[Image]:
    return [Image(entry["region"], entry["image"], (build,)) for entry in record[build]]


def regions_of(images: Iterable[Image]) -> set[str]:
    """The regions of these images that are not closed."""
    return {image.region for image in images} - CLOSED_REGIONS.keys()


def recorded_regions(record: Record, release: str) -> set[str]:
    """The regions of all images on record, deleted ones too: an earlier run may have left snapshots there."""
    return regions_of(
        image for build in record if is_of_release(build, release) for image in recorded_images(record, build)
    )


def find_images(release: Release, uploads: dict[str, list[Image]], record: Record) -> list[Image]:
    """Find the images to look at, each with all the builds that list it, on record or not.

    Of the images on record, those are looked at again that are not deleted and of this release: this run does not know
    what to keep of other releases.
    """
    recorded = {build: recorded_images(record, build) for build in record}
    listed = [*release.named_images.values(), *itertools.chain(*uploads.values())]
    builds: dict[str, set[str]] = defaultdict(set)
    for image in itertools.chain(listed, *recorded.values()):
        builds[image.id].update(image.builds)
    retried = [
        image
        for build, entries in record.items()
        if is_of_release(build, release.name)
        for image, entry in zip(recorded[build], entries)
        if not entry["deleted"]
    ]
    return [
        dataclasses.replace(image, builds=tuple(sorted(builds[image.id]))) for image in dict.fromkeys(listed + retried)
    ]


def check_account(regions: dict[str, Ecs], release: Release) -> None:
    """Find a witness among the bootimages of each region; refuse unless one of them all is the account's own.

    A region without one is given up: nothing there is changed.
    """
    errors: dict[str, Exception] = {}
    progress.begin("regions checked", len(regions))
    named = group_by_region(release.named_images.values())
    check = partial(find_bootimage, regions=regions, named=named)
    for region, future in in_parallel(check, regions, len(regions)):
        progress.advance()
        error = future.exception()
        if isinstance(error, Exception):
            refuse_if_fatal(error)
            errors[region] = error
            reason = str(error) if isinstance(error, OutsideError) else log_unexpected(region, error)
            regions[region].operations["DescribeImages"].give_up(f"the bootimages could not be looked at ({reason})")
    if any(ecs.witness for ecs in regions.values()):
        return
    if errors and all(isinstance(errors.get(region), LostError) for region in regions):
        raise Refusal(f"no region answered: check network and proxy ({next(iter(errors.values()))})")
    detail = "".join(f" ({region}: {error})" for region, error in list(errors.items())[:1])
    raise Refusal(
        "none of the bootimages is listed as the account's own: check that ALIYUN_ACCESS_KEY_ID belongs to the account "
        f"that RHCOS images are uploaded to, and that its policy grants ecs:DescribeImages{detail}"
    )


def refuse_if_fatal(error: Exception) -> None:
    """Refuse for errors of one region that any other region would meet, too."""
    if isinstance(error, CertificateError):
        raise Refusal(str(error)) from None
    if isinstance(error, DeniedError) and CREDENTIALS_REFUSED.fullmatch(error.code):
        raise Refusal(
            f"Alibaba Cloud refused the credentials: {error}: check ALIYUN_ACCESS_KEY_ID, ALIYUN_ACCESS_KEY_SECRET and "
            "this machine's clock"
        ) from None


def find_bootimage(region: str, regions: dict[str, Ecs], named: dict[str, list[Image]]) -> None:
    """Make the first of the bootimages in a region that the account owns the witness of this region."""
    ecs, images = regions[region], named[region]
    ecs.has_bootimages = True
    seen = ecs.look([image.id for image in images[:DESCRIBE_LIMIT]]).images
    ecs.witness = next((image.id for image in images if image.id in seen and seen[image.id].own), "")
    if not ecs.witness:
        verdict = f"none of the {len(images)} bootimages there is listed as the account's own"
        ecs.operations["DescribeImages"].give_up(f"{verdict}: {ecs.permission_to_look()}")


def plan_regions(regions: dict[str, Ecs], images: Iterable[Image], release: Release) -> Outcomes:
    """Look at every image, and decide what happens to it."""
    plan: Outcomes = {}
    grouped = group_by_region(images)
    for region in sorted(set(grouped).intersection(CLOSED_REGIONS)):
        closed = grouped.pop(region)
        log.info("%s: closed on %s, with its %d images", region, CLOSED_REGIONS[region], len(closed))
        plan.update((image, Outcome(Result.CLOSED)) for image in closed)
    progress.begin("regions looked at", len(regions))
    look_at = partial(plan_region, release=release)
    for region, future in in_parallel(lambda region: look_at(regions[region], grouped[region]), regions, len(regions)):
        progress.advance()
        plan.update(region_outcomes(region, future, grouped[region]))
    return plan


def region_outcomes(region: str, future: Future[Outcomes], resources: Iterable[Resource]) -> Outcomes:
    """The outcomes in a region; an exception that nothing here expects fails the images of this region only."""
    error = future.exception()
    if error is None:
        return future.result()
    reason = log_unexpected(region, error)
    return {resource: Outcome(Result.WAITING, reason) for resource in resources}


def plan_region(ecs: Ecs, images: Sequence[Image], release: Release) -> Outcomes:
    plan: Outcomes = {}
    try:
        if images and not ecs.has_bootimages:
            candidates = {image.id for image in images}
            ecs.witness = next((id for id in ecs.own_images() if id not in candidates), "")
        for batch in batches(images, DESCRIBE_LIMIT - 1):
            look = ecs.look([image.id for image in batch])
            plan.update((image, decide(image, look, release)) for image in batch)
        if ecs.delete_snapshots:
            behind = [Snapshot(ecs.region, id) for outcome in plan.values() for id in snapshots_to_delete(outcome)]
            plan.update((snapshot, Outcome(Result.TO_DELETE)) for snapshot in behind + ecs.marked_snapshots())
    except OutsideError as error:
        return {image: Outcome(Result.WAITING, str(error)) for image in images}
    return plan


def snapshots_to_delete(outcome: Outcome) -> tuple[str, ...]:
    return outcome.seen.snapshots if outcome.result is Result.TO_DELETE and outcome.seen else ()


def decide(image: Image, look: Look, release: Release) -> Outcome:
    """Decide what happens to an image after a look at it."""
    seen = look.images.get(image.id)
    if seen is None:
        if look.absent.result is Result.GONE and is_bootimage(image, release):
            return Outcome(Result.MISSING)
        return look.absent
    reason = reason_to_keep(image, seen, release)
    if reason is not None:
        return Outcome(Result.KEPT, reason, seen)
    return Outcome(Result.TO_DELETE, seen=seen)


def reason_to_keep(image: Image, seen: CloudImage, release: Release) -> str | None:
    """Why an image must stay, or None if it may be deleted; the only place that decides that.

    Part of the promises is kept elsewhere: `find_images` finds all builds that list the image, `Ecs.call` makes no
    change on a look older than a minute, and `decide` never deletes an image that the look does not show.
    """
    if is_bootimage(image, release):
        return BOOTIMAGE
    if not seen.own:
        return "not the account's own"
    if seen.pinned:
        return "pinned by its tag bootimage=true"
    if seen.in_use:
        return "used by an instance"
    for build in image.builds:
        reason = reason_to_skip(build, release.name)
        if reason is not None:
            return reason
    if not set(image.builds) <= release.builds.keys():
        return UNLISTED
    # A list or the record may be wrong about an image; its name says which build uploaded it.
    named = BUILD_ID.search(seen.name)
    if not named or named[0] not in image.builds:
        return f"its name {seen.name!a:.80} does not contain the ID of its build"
    return None


def is_bootimage(image: Image, release: Release) -> bool:
    return image.id in release.named_images or any(build in release.bootimages for build in image.builds)


def group_by_region(resources: Iterable[AnyResource]) -> dict[str, list[AnyResource]]:
    grouped: dict[str, list[AnyResource]] = defaultdict(list)
    for resource in resources:
        grouped[resource.region].append(resource)
    return grouped


def log_outcome(resource: Resource, outcome: Outcome) -> None:
    """Log an outcome that needed no change in the cloud; WAITING is logged once for the region."""
    if outcome.result is Result.GONE:
        image_log.info("%s is already gone", resource)
    elif outcome.result is Result.MISSING:
        log.warning("%s is a bootimage, but it is not in the account", resource)
    elif outcome.result is Result.LEFT:
        log.warning("%s is left: %s", resource, outcome.reason)
    elif outcome.result is Result.KEPT:
        # The reason of a build holds for all its images; the plan names it.
        of_build = outcome.reason in (BOOTIMAGE, NO_DATE, OTHER_RELEASE, TOO_YOUNG)
        log.log(logging.DEBUG if of_build else logging.WARNING, "%s is kept: %s", resource, outcome.reason)


def log_waiting(region: str, outcomes: Outcomes) -> None:
    waiting = Counter(
        (outcome.reason, kind_of(resource))
        for resource, outcome in outcomes.items()
        if outcome.result is Result.WAITING
    )
    for (reason, kind), count in waiting.items():
        log.error("%s: %d %s wait for the next run: %s", region, count, kind, reason)


def kind_of(resource: Resource) -> str:
    return "images" if isinstance(resource, Image) else "snapshots"


def log_plan(plan: Outcomes, release: Release, record: Record) -> None:
    """Log what is special about single images, then the plan, then the regions that wait for the next run."""
    for resource, outcome in plan.items():
        log_outcome(resource, outcome)
    for line in describe_plan(release, record, plan):
        log.info("%s", line)
    for region, resources in group_by_region(plan).items():
        log_waiting(region, {resource: plan[resource] for resource in resources})


def describe_plan(release: Release, record: Record, plan: Outcomes) -> Iterator[str]:
    """Describe the plan line by line: the bootimages, the other builds, and a table of the regions."""
    images = {resource: outcome for resource, outcome in plan.items() if isinstance(resource, Image)}
    regions = Counter(
        build for image, outcome in images.items() if outcome.reason == BOOTIMAGE for build in image.builds
    )
    for build in sorted(release.bootimages & regions.keys()):
        yield f"bootimage {build}: {regions[build]} regions"
    reasons = Counter(
        BOOTIMAGE if build in release.bootimages else reason_to_skip(build, release.name, record) or "to prune"
        for build in release.builds
    )
    yield f"builds: {len(release.builds)} ({format_counts(reasons)})"
    pruned = {
        build for image, outcome in images.items() if outcome.result is Result.TO_DELETE for build in image.builds
    }
    dates = sorted(built for built in map(built_at, pruned) if built)
    if dates:
        yield f"builds with images to delete: {len(pruned)}, made from {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}"
    snapshots = len(plan) - len(images)
    if snapshots:
        yield f"snapshots to delete: {snapshots:,}, unless an image that stays was made from them"
    yield from format_table(images)


def format_table(images: Mapping[Image, Outcome]) -> Iterator[str]:
    columns = ("to delete", "of these public", "bootimages", "kept otherwise")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for image, outcome in images.items():
        for row in (image.region, "total"):
            if outcome.result is Result.TO_DELETE:
                counts[row]["to delete"] += 1
                counts[row]["of these public"] += bool(outcome.seen and outcome.seen.public)
            elif outcome.result is Result.KEPT:
                counts[row]["bootimages" if outcome.reason == BOOTIMAGE else "kept otherwise"] += 1
    yield f"{'region':15}" + "".join(f"{column:>{len(column) + 2}}" for column in columns)
    for row in [*sorted(counts.keys() - {"total"}), "total"]:
        yield f"{row:15}" + "".join(f"{counts[row][column]:{len(column) + 2},}" for column in columns)


def log_dry_run(plan: Outcomes) -> None:
    """Log what a run would do to each image and snapshot, region by region."""
    for resource, outcome in sorted(plan.items(), key=lambda item: (item[0].region, item[1].reason, item[0].id)):
        if outcome.reason == BOOTIMAGE and is_changed(outcome):
            log.info("%s would be tagged bootimage=true", resource)
        elif is_changed(outcome) and isinstance(resource, Image):
            private = "made private, " if outcome.seen and outcome.seen.public else ""
            log.info("%s would be tagged bootimage=false, %sdeleted", resource, private)
        elif is_changed(outcome):
            log.info("%s would be deleted", resource)


# Step 6: tag, make private, delete


def prune_regions(regions: dict[str, Ecs], plan: Outcomes, release: Release) -> Outcomes:
    """Carry out the plan; returns the outcomes of what it changes."""
    outcomes: Outcomes = {}
    to_prune = group_by_region(resource for resource, outcome in plan.items() if is_changed(outcome))
    progress.begin("images done", sum(map(len, to_prune.values())), len(to_prune))
    prune = partial(prune_region, plan=plan, release=release)
    for region, future in in_parallel(lambda region: prune(regions[region], to_prune[region]), to_prune, len(to_prune)):
        of_region = region_outcomes(region, future, to_prune[region])
        progress.regions_done += 1
        log_region(region, of_region, progress.started)
        outcomes.update(of_region)
    return outcomes


def log_region(region: str, outcomes: Outcomes, started: float) -> None:
    """Log the end of a region; `started` is of the monotonic clock."""
    log_waiting(region, outcomes)
    deleted = Counter(kind_of(resource) for resource, outcome in outcomes.items() if outcome.result is Result.DELETED)
    failed = sum(outcome.result in (Result.FAILED, Result.WAITING) for outcome in outcomes.values())
    snapshots = f", {deleted['snapshots']:,} snapshots deleted" if deleted["snapshots"] else ""
    seconds = time.monotonic() - started
    duration = f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
    log.info("%s: %s deleted%s, %s failed, %s", region, f"{deleted['images']:,}", snapshots, f"{failed:,}", duration)


def is_changed(outcome: Outcome) -> bool:
    """Whether a run changes this image: it deletes it, or tags it as a bootimage."""
    return outcome.result is Result.TO_DELETE or (
        outcome.reason == BOOTIMAGE and outcome.seen is not None and outcome.seen.own and outcome.seen.tag != "true"
    )


def prune_region(ecs: Ecs, resources: Sequence[Resource], plan: Outcomes, release: Release) -> Outcomes:
    """Prune one region: tag its bootimages; tag, make private and delete the other images, and their snapshots."""
    outcomes: Outcomes = {}
    images = [resource for resource in resources if isinstance(resource, Image)]
    bootimages = [image for image in images if plan[image].reason == BOOTIMAGE]
    to_delete = [image for image in images if plan[image].result is Result.TO_DELETE]
    # In another order each time: several images in a row that always fail must not end every run at the same place.
    random.shuffle(to_delete)
    tag_all(ecs, [(image, image.id) for image in bootimages], "true", outcomes)
    progress.advance(len(bootimages) - len(outcomes))
    with ThreadPoolExecutor(REGION_WORKERS) as pool:
        for batch in batches(to_delete, DESCRIBE_LIMIT - 1):
            prune_batch(ecs, batch, release, outcomes, pool)
        deleted = [image for image in to_delete if outcomes[image].result is Result.DELETED]
        confirm_deletions(ecs, deleted, outcomes)
        if ecs.delete_snapshots:
            gone = [image for image in to_delete if outcomes[image].result in (Result.DELETED, Result.GONE)]
            behind = [(image, id) for image in gone for id in snapshots_to_delete(plan[image])]
            mark_rest(ecs, behind, outcomes)
            planned = [resource for resource in resources if isinstance(resource, Snapshot)]
            sweep_snapshots(ecs, [Snapshot(ecs.region, id) for _, id in behind], planned, outcomes, pool)
    untouched = [resource for resource in resources if resource not in outcomes and resource not in bootimages]
    outcomes.update((snapshot, Outcome(Result.KEPT, IMAGE_STAYS)) for snapshot in untouched)
    return outcomes


def prune_batch(
    ecs: Ecs, batch: Sequence[Image], release: Release, outcomes: Outcomes, pool: ThreadPoolExecutor
) -> None:
    """Look at up to 99 images, decide again, and delete; adds the outcome of each.

    While operations are throttled, a look gets too old to delete by it: the images that are left are looked at again.
    """
    pending = list(batch)
    while pending:
        try:
            ecs.check()
            look = ecs.look([image.id for image in pending])
        except OutsideError as error:
            outcomes.update((image, Outcome(Result.WAITING, str(error))) for image in pending)
            progress.advance(len(pending))
            return
        to_delete = []
        for image in pending:
            outcome = decide(image, look, release)
            if outcome.result is Result.TO_DELETE:
                to_delete.append(image)
            else:
                outcomes[image] = outcome
                log_outcome(image, outcome)
                progress.advance()
        delete_images(ecs, to_delete, look, outcomes, pool)
        pending = [image for image in to_delete if image not in outcomes]


def delete_images(ecs: Ecs, images: Sequence[Image], look: Look, outcomes: Outcomes, pool: ThreadPoolExecutor) -> None:
    """Tag images and delete them; adds the outcome of each, unless the look has become too old for it."""
    try:
        untagged = [(image, image.id) for image in images if look.images[image.id].tag != "false"]
        tag_all(ecs, untagged, "false", outcomes, look)
        if ecs.delete_snapshots:
            # Mark, then sweep: no interrupt can lose a snapshot of an image that is gone.
            behind = [(i, id) for i in images if i not in outcomes for id in look.images[i.id].snapshots]
            unmarked = [(image, id) for image, id in behind if Snapshot(ecs.region, id) not in ecs.marked]
            tag_all(ecs, unmarked, "false", outcomes, look, "snapshot")
    except OutdatedError:
        return
    tagged = [image for image in images if image not in outcomes]
    deletions = pool.map(lambda image: delete_image(ecs, image, look), tagged)
    outcomes.update((image, outcome) for image, outcome in zip(tagged, deletions) if outcome is not None)


def mark_rest(ecs: Ecs, behind: Sequence[tuple[Image, str]], outcomes: Outcomes) -> None:
    """Mark the snapshots behind images that somebody else deleted meanwhile; adds the outcome if that fails."""
    failures: Outcomes = {}
    unmarked = [(image, id) for image, id in behind if Snapshot(ecs.region, id) not in ecs.marked]
    tag_all(ecs, unmarked, "false", failures, resource="snapshot")
    for image, id in unmarked:
        if image in failures:
            image_log.info("%s leaves snapshot %s", image, id)
            outcomes[Snapshot(ecs.region, id)] = failures[image]


def tag_all(
    ecs: Ecs,
    ids: Sequence[tuple[Image, str]],
    value: str,
    outcomes: Outcomes,
    look: Look | None = None,
    resource: str = "image",
) -> None:
    """Tag images, or the snapshots behind images, `bootimage=value`; each ID comes with its image.

    Adds the outcome of the images for which that failed. One ID that cannot be tagged fails the call for the whole
    batch, so its IDs are then tagged one by one.
    """
    pending = deque(batches(ids, TAG_LIMIT))
    while pending:
        batch = pending.popleft()
        try:
            ecs.tag([id for _, id in batch], value, look, resource)
        except OutdatedError:
            raise
        except OutsideError as error:
            if len(batch) > 1 and not isinstance(error, (DeniedError, GivenUpError)):
                pending.extend(batches(batch, 1))
            elif look and is_not_found(error) and not ecs.not_found.issuperset(batch):
                ecs.not_found.update(batch)
                raise OutdatedError("an image of this look is gone, perhaps") from None
            else:
                failed = dict.fromkeys(image for image, _ in batch if image not in outcomes)
                outcomes.update((image, log_failed(image, error)) for image in failed)
                progress.advance(len(failed))
        else:
            if resource == "snapshot":
                ecs.marked.update(Snapshot(ecs.region, id) for _, id in batch)
            for image, id in batch:
                image_log.info("%s tagged bootimage=%s", image if id == image.id else Snapshot(image.region, id), value)


def is_not_found(error: OutsideError) -> bool:
    return isinstance(error, EcsError) and error.code.endswith(".NotFound")


def delete_image(ecs: Ecs, image: Image, look: Look) -> Outcome | None:
    """Make an image private if it is public, and delete it; None if the look at it has become too old for that."""
    seen = look.images[image.id]
    try:
        if seen.public:
            ecs.make_private(image.id, look)
            image_log.info("%s made private", image)
        for snapshot in () if ecs.delete_snapshots else seen.snapshots:
            # Logged first: once the image is gone, nobody can find its snapshots any more.
            image_log.info("%s leaves snapshot %s", image, snapshot)
        ecs.delete(image.id, look)
    except OutdatedError:
        return None
    except OutsideError as error:
        outcome = log_failed(image, error)
    else:
        image_log.info("%s deleted", image)
        outcome = Outcome(Result.DELETED)
    progress.advance()
    return outcome


def confirm_deletions(ecs: Ecs, images: Sequence[Image], outcomes: Outcomes) -> None:
    """Wait until the cloud no longer lists the deleted images; changes the outcome of those that it goes on to list."""
    for seconds in (0, *CONFIRMATION_PAUSES):
        if seconds:
            log.info("%s: %d deleted images are still listed; checking again in %d s", ecs.region, len(images), seconds)
            time.sleep(seconds)
        try:
            outcomes.update(check_deletions(ecs, images))
        except OutsideError as error:
            reason = f"deleted, but not confirmed to be gone: {error}"
            outcomes.update((image, Outcome(Result.WAITING, reason)) for image in images)
            return
        images = [image for image in images if outcomes[image].result is Result.FAILED]
        if not images:
            return
    for image in images:
        log_failed(image, EcsError(outcomes[image].reason))


def check_deletions(ecs: Ecs, images: Sequence[Image]) -> Outcomes:
    """Look at deleted images once more: DELETED if they are shown to be gone, FAILED otherwise."""
    outcomes: Outcomes = {}
    for batch in batches(images, DESCRIBE_LIMIT - 1):
        look = ecs.look([image.id for image in batch])
        for image in batch:
            if image.id in look.images:
                outcomes[image] = Outcome(Result.FAILED, "the cloud still lists it five minutes after its deletion")
            elif look.absent.result is Result.GONE or (
                look.absent.result is Result.LEFT and ecs.has_forgotten(image.id, look)
            ):
                outcomes[image] = Outcome(Result.DELETED)
            else:
                outcomes[image] = Outcome(Result.FAILED, look.absent.reason)
    return outcomes


def sweep_snapshots(
    ecs: Ecs, behind: Sequence[Snapshot], planned: Sequence[Snapshot], outcomes: Outcomes, pool: ThreadPoolExecutor
) -> None:
    """Delete the snapshots behind deleted images, and those that an interrupted run has left marked."""
    try:
        for batch in batches(find_marked(ecs, behind), DESCRIBE_LIMIT):
            pending = list(batch)
            while pending:
                listed, look = ecs.look_at_snapshots(pending)
                unmarked = [snapshot for snapshot in pending if not listed.get(snapshot, True)]
                outcomes.update((snapshot, Outcome(Result.KEPT, UNMARKED)) for snapshot in unmarked)
                # One that is not listed has perhaps been deleted by another run: DeleteSnapshot says so.
                to_delete = [snapshot for snapshot in pending if snapshot not in unmarked]
                deletions = pool.map(partial(delete_snapshot, ecs, look), to_delete)
                outcomes.update((key, outcome) for key, outcome in zip(to_delete, deletions) if outcome is not None)
                pending = [snapshot for snapshot in to_delete if snapshot not in outcomes]
    except OutsideError as error:
        left = [snapshot for snapshot in dict.fromkeys([*behind, *planned]) if snapshot not in outcomes]
        outcomes.update((snapshot, log_failed(snapshot, error)) for snapshot in left)


def find_marked(ecs: Ecs, behind: Sequence[Snapshot]) -> list[Snapshot]:
    """Find all marked snapshots; those behind deleted images that this run marked are included, listed or not."""
    expected = ecs.marked.intersection(behind)
    for seconds in TAG_PAUSES:
        time.sleep(seconds)
        found = ecs.marked_snapshots()
        if expected <= set(found):
            break
    return list(dict.fromkeys([*found, *expected]))


def delete_snapshot(ecs: Ecs, look: Look, snapshot: Snapshot) -> Outcome | None:
    """Delete a snapshot; None if the look at it has become too old for that."""
    try:
        ecs.delete_snapshot(snapshot.id, look)
    except OutdatedError:
        return None
    except OutsideError as error:
        if isinstance(error, EcsError) and error.code == "SnapshotCreatedImage":
            outcome = Outcome(Result.KEPT, IMAGE_STAYS)
        else:
            outcome = log_failed(snapshot, error)
    else:
        image_log.info("%s deleted", snapshot)
        outcome = Outcome(Result.DELETED)
    progress.advance()
    return outcome


def log_failed(resource: Resource, error: OutsideError) -> Outcome:
    """Log a failure; what was not touched because of an earlier failure is logged once for the region."""
    progress.fail()
    if isinstance(error, (DeniedError, GivenUpError)):
        return Outcome(Result.WAITING, str(error))
    log.error("%s failed: %s", resource, error)
    return Outcome(Result.FAILED, getattr(error, "code", "") or str(error))


# Step 7: the record


def load_record(path: str) -> Record:
    """Load the record of earlier runs; it is empty if there is no file."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise Refusal(f"the record {path} is not a file; give another --filename")
        with open(path, encoding="utf-8") as file:
            record: Record = parse_json(file.read(), object_pairs_hook=refuse_duplicates)
        check_record(record)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refusal(f"the record {path} cannot be read: {file_error(error)}") from None
    except ValueError as error:
        raise Refusal(
            f"{path} is not a record of this program: {error}; repair it, or give another --filename"
        ) from None
    return record


def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the dict that json.loads would make; raises ValueError where it would drop one of two equal keys."""
    members = dict(pairs)
    if len(members) != len(pairs):
        (key, _), *_ = (Counter(key for key, _ in pairs)).most_common(1)
        raise ValueError(f"it contains {key!a:.60} twice")
    return members


def check_record(record: object) -> None:
    """Raise ValueError unless this is a record."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    for build, entries in record.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{build!a:.60} is not a list of objects")
        for entry in entries:
            parse_image(build, entry.get("region"), entry.get("image"))
            if any(isinstance(value, (dict, list)) for value in entry.values()):
                raise ValueError(f"an entry of {build!a:.60} is nested")
            if not isinstance(entry.get("deleted"), bool):
                raise ValueError(f"an entry of {build!a:.60} does not say whether it is deleted")


def update_record(record: Record, uploads: dict[str, list[Image]], release: Release, outcomes: Outcomes) -> Record:
    """The record with this run's outcomes. Whichever build lists an image, its entry gets the same outcome."""
    gone = {
        image: outcome.result in (Result.DELETED, Result.GONE, Result.CLOSED) for image, outcome in outcomes.items()
    }
    updated: Record = {}
    for build, entries in record.items():
        images = recorded_images(record, build)
        updated[build] = [
            {**entry, "deleted": gone.get(image, entry["deleted"])} for image, entry in zip(images, entries)
        ]
    for build, images in uploads.items():
        if build not in release.bootimages and reason_to_skip(build, release.name, record) is None:
            updated[build] = [{"region": i.region, "image": i.id, "deleted": gone.get(i, False)} for i in images]
    return updated


def check_replaceable(path: str) -> None:
    """Refuse now if save_record would fail, by replacing the record with a copy of itself."""
    try:
        with locked_folder(path):
            existed = os.path.exists(path)
            with open(path, "rb") if existed else contextlib.nullcontext() as file:
                replace_file(path, file.read() if file else b"{}\n")
            if not existed:
                os.unlink(os.path.realpath(path))
    except OSError as error:
        raise Refusal(f"the record {path} cannot be replaced: {file_error(error)}") from None


def warn_if_not_replaceable(path: str) -> None:
    """What a dry run can tell about that without writing."""
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        reason = file_error(FileNotFoundError(errno.ENOENT, "missing"))
    elif is_mount(path):
        reason = file_error(OSError(errno.EBUSY, "it is mounted"))
    elif not os.access(folder, os.W_OK) or (os.path.exists(path) and not os.access(path, os.W_OK)):
        reason = "a run needs write access to it and to its folder"
    elif is_protected(path):
        reason = file_error(PermissionError(errno.EPERM, "another user owns it"))
    else:
        return
    log.warning("the record %s cannot be replaced: %s", path, reason)


def is_protected(path: str) -> bool:
    """Whether the sticky bit of its folder protects a file from being replaced by this user; chmod(1) describes it."""
    folder = os.stat(os.path.dirname(path))
    owners = (0, folder.st_uid, os.stat(path).st_uid) if os.path.exists(path) else ()
    return bool(folder.st_mode & stat.S_ISVTX and owners and os.geteuid() not in owners)


def is_mount(path: str) -> bool:
    """Whether something is mounted there, a single file included; proc(5) describes /proc/self/mountinfo."""
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", errors="surrogateescape") as file:
        return any(line.split()[4] == path for line in file)
    return False


def save_record(path: str, update: Callable[[Record], Record]) -> None:
    """Update the record as it is now: another run may have written to it since this one read it."""
    try:
        with locked_folder(path):
            content = json.dumps(update(load_record(path)), indent=2) + "\n"
            replace_file(path, content.encode())
    except (OSError, Refusal) as error:
        reason = file_error(error) if isinstance(error, OSError) else error
        raise OutsideError(
            f"the record {path} could not be written: {reason}. It is unchanged; the next run will find the deleted "
            "images gone"
        ) from None


@contextlib.contextmanager
def locked_folder(path: str) -> Iterator[None]:
    """Keep other runs from replacing files in the folder of this file. Not every file system can lock a folder."""
    folder = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
    try:
        for _ in range(LOCK_SECONDS * 10):
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)
            except OSError as error:
                log.warning("the folder of %s cannot be locked (%s): do not share it with another run", path, error)
                break
        else:
            raise OSError(errno.EBUSY, f"another process has locked its folder for {LOCK_SECONDS} seconds")
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
                with contextlib.suppress(OSError):
                    os.chown(temporary, os.stat(path).st_uid, os.stat(path).st_gid)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def file_error(error: OSError) -> str:
    """Why a file cannot be used, and what to do."""
    if error.errno == errno.ENOENT:
        return "its folder does not exist; create it, or give another path"
    if error.errno in (errno.EBUSY, errno.EROFS):
        return f"{error.strerror}; if it is mounted into a container as a single file, mount its folder instead"
    if error.errno == errno.EPERM:
        return f"{error.strerror}; if its folder is sticky, only its owner may replace it: give another path"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; free some space, or give another path"
    return f"{error.strerror}; make it writable, or give another path"


# The run as a whole


def run(args: argparse.Namespace) -> int:
    """Do the seven steps; returns the exit status: 0, or 1 if some images were not pruned."""
    check_threads(MOST_REGIONS * (REGION_WORKERS + 1))
    environment = read_environment()
    record = load_record(args.filename)
    (warn_if_not_replaceable if args.dry_run else check_replaceable)(args.filename)
    web = Web(environment)

    release, directories = find_bootimages(web, args.release)
    connect = partial(Ecs, environment=environment, delete_snapshots=args.delete_snapshots)
    regions = {region: connect(region) for region in regions_of(release.named_images.values())}
    check_account(regions, release)
    builds, missing = find_builds(web, args.release, directories)
    to_read = {build: urls for build, urls in builds.items() if build not in record or build in release.bootimages}
    uploads, unread = find_uploads(web, to_read, release)
    release = release._replace(builds=builds)

    images = find_images(release, uploads, record)
    used = regions_of(images)
    if args.delete_snapshots:
        used |= recorded_regions(record, args.release)
    regions |= {region: connect(region) for region in used - regions.keys()}
    plan = plan_regions(regions, images, release)
    log_plan(plan, release, record)
    if args.dry_run:
        outcomes = plan
        log_dry_run(plan)
    else:
        outcomes = {**plan, **prune_regions(regions, plan, release)}
        save_record(args.filename, partial(update_record, uploads=uploads, release=release, outcomes=outcomes))
    for line in summarize(plan, outcomes, args):
        log.info("%s", line)
    if missing or unread or any(outcome.result in (Result.FAILED, Result.WAITING) for outcome in outcomes.values()):
        log.error("some images were not pruned: fix the errors above and run the same command again")
        return 1
    return 0


def check_threads(count: int) -> None:
    """Refuse now if this many threads cannot run at the same time."""
    finish = threading.Event()
    started = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=finish.wait)
            thread.start()
            started.append(thread)
    except RuntimeError:
        raise Refusal(
            f"{count} threads are needed, but only {len(started)} can be had: raise the limit of processes (ulimit -u; "
            "in a container --pids-limit)"
        ) from None
    finally:
        finish.set()
        for thread in started:
            thread.join()


def summarize(plan: Outcomes, outcomes: Outcomes, args: argparse.Namespace) -> Iterator[str]:
    """What the run did, or what it would do, line by line."""
    success = Result.TO_DELETE if args.dry_run else Result.DELETED
    reasons = {("images", result): Counter[str]() for result in (success, Result.KEPT, Result.FAILED)}
    if args.delete_snapshots:
        reasons["snapshots", success] = Counter()
    failures: dict[str, Counter[str]] = defaultdict(Counter)
    for resource, outcome in outcomes.items():
        reasons.setdefault((kind_of(resource), outcome.result), Counter())[outcome.reason] += 1
        if outcome.result in (Result.FAILED, Result.WAITING):
            failures[resource.region][outcome.reason] += 1
    order = list(Result)
    for (kind, result), counts in sorted(reasons.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        details = f" ({format_counts(counts)})" if result in (Result.KEPT, Result.LEFT) and counts else ""
        yield f"{kind} {result.value}: {sum(counts.values()):,}{details}"
    if not args.delete_snapshots:
        deleted = [resource for resource, outcome in outcomes.items() if outcome.result is success]
        left = sum(len(snapshots_to_delete(plan[resource])) for resource in deleted)
        if args.dry_run:
            yield f"snapshots left, still billed: {left:,} (unless --delete-snapshots is given)"
        elif left:
            yield f"snapshots left by this run, still billed: {left:,} (the log names them)"
    for region, of_region in sorted(failures.items()):
        yield f"not pruned in {region}: " + ", ".join(f"{count} ({reason})" for reason, count in of_region.items())
    yield f"record: {args.filename}{' (not written by a dry run)' if args.dry_run else ''}"


def format_counts(counts: Counter[str]) -> str:
    """The keys with their numbers, the most frequent first."""
    return ", ".join(f"{count} {key}" for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


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


def start_log(path: str, debug: bool) -> LogFile:
    """Log to stdout and, with time and time zone, to the file. Refuses if the first line cannot be written to it."""
    try:
        log_file = LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        sys.exit(f"main.py: error: the log {path} cannot be written: {file_error(error)} with --log-to-file")
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
    return log_file


def release_number(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*\.(0|[1-9][0-9]*)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a release: give it in the form 4.10")
    return text


def file_path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("a file name must not be empty")
    return os.path.abspath(text)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
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


def attempt(args: argparse.Namespace, log_file: LogFile) -> int:
    """Run, and turn every exception into a line of the log."""
    status = 1
    try:
        what = "dry run" if args.dry_run else "run"
        log.info("%s of release %s; record: %s, log: %s", what, args.release, args.filename, args.log_to_file)
        if log_file.error:
            raise Refusal(f"the log {args.log_to_file} cannot be written: {log_file.error}; give another --log-to-file")
        status = run(args)
    except Refusal as error:
        log.error("%s (nothing was changed)", error)
    except OutsideError as error:
        log.error("%s", error)
    except Exception as error:
        log_unexpected("the run", error)
    if log_file.error:
        log.error("the log %s is incomplete: %s", args.log_to_file, log_file.error)
        status = 1
    log_end(status)
    return status


def log_end(status: int) -> None:
    log.info("ended with status %d after %s", status, timedelta(seconds=round(time.monotonic() - progress.run_started)))


def log_unexpected(what: str, error: BaseException) -> str:
    """Log an exception that no part of this program expects; returns it as a reason."""
    reason = one_line(f"unexpected {error!r}")
    log.error("%s failed: %s: please report it, with the log of a run with --debug", what, reason)
    log.debug("%s", what, exc_info=error)
    return reason


def end_at_once(signum: int, _: FrameType | None) -> None:
    """End the process wherever it is: the record is safe at any moment, so there is nothing to wind up."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    # In a thread, because a reader that stopped reading stdout would block the last line for as long as it likes.
    last_line = threading.Thread(target=log_interruption, args=[signum], daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads
        last_line.start()
        last_line.join(FAREWELL_SECONDS)
    replacing.acquire(timeout=FAREWELL_SECONDS)
    os._exit(128 + signum)


def log_interruption(signum: int) -> None:
    show_status("")
    name = signal.Signals(signum).name
    log.error("interrupted by %s (%s): run the same command again to continue", name, progress)
    log_end(128 + signum)


def show_status(status: str) -> None:
    for handler in log.handlers:
        if isinstance(handler, Terminal):
            handler.show(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Work in a thread of its own, so that this one is free for signals and for the progress."""
    args = parse_args(argv)
    log_file = start_log(args.log_to_file, args.debug)
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, end_at_once)
    try:
        work = ThreadPoolExecutor(1).submit(attempt, args, log_file)
    except RuntimeError:
        return attempt(args, log_file)  # Not even one thread can be had: check_threads refuses the run.
    watch(work)
    return work.result()


def watch(work: Future[int]) -> None:
    """Wait for the end; show the progress on a terminal, and log it every 30 seconds."""
    logged = time.monotonic()
    while wait([work], timeout=STATUS_SECONDS).not_done:
        show_status(progress.status())
        if time.monotonic() - logged >= PROGRESS_SECONDS:
            logged = time.monotonic()
            image_log.info("%s", progress.status())
    show_status("")


def close_stdout() -> None:
    """A reader that has gone, as in `./main.py 4.10 | head`, must not change the exit status, as Python 3.14 would."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    exit_status = main()
    close_stdout()
    sys.exit(exit_status)
