#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["aliyun-python-sdk-core>=2.16,<3", "aliyun-python-sdk-ecs>=4.24,<5", "requests>=2.32,<3"]
# ///
"""Delete the RHCOS images on Alibaba Cloud (Aliyun) that never became an OpenShift bootimage.

Every build of Red Hat CoreOS uploaded an image to some 25 regions. A build is a bootimage if any version of
`data/data/coreos/rhcos.json` on the release's branch of openshift/installer names it. Bootimages are kept; the images
of all other builds are tagged `bootimage=false`, made private and deleted. A run has seven steps:

1. `list_commits`   lists the commits on the release's branch that touched rhcos.json (GitHub)
2. `read_history`   reads these versions: the builds and images to keep, and where the release's builds are
3. `find_builds`    reads every builds.json of the release (RHCOS store)
4. `find_uploads`   reads the meta.json of each build: the images that it uploaded, by region
5. `Region`         looks at the images of a region, and decides (ECS)
6.                  tags, makes private and deletes them, until a look shows that they are gone
7. `save_record`    writes the results to deleted_images.json, for the next run

The record lists what each build uploaded; `deleted: false` is tried again by the next run:

    {"410.84.202112050307-0": [{"region": "us-east-1", "image": "m-54e010053cff19f42b9e", "deleted": true}]}

Each document, image and snapshot is a `Job` with one state. `work_off` is the loop for all of them: it looks, acts, and
looks again until each job has a final state, or `Patience` has no hope. The way to a deletion is one of names: `run`,
`prune_regions`, `Region.prune`, `prune_batch`, `delete`. Only `reason_to_keep` decides whether an image may be deleted.
What a service does not show is not therefore gone: an image counts as gone only if the same answer shows the region's
witness, an image of the account that no run deletes.
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

import argparse
import contextlib
import fcntl
import hashlib
import itertools
import json
import logging.handlers
import random
import re
import shutil
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

try:
    import requests
    from aliyunsdkcore.acs_exception.exceptions import ClientException, ServerException
    from aliyunsdkcore.client import AcsClient
    from aliyunsdkecs.request.v20140526.DeleteImageRequest import DeleteImageRequest
    from aliyunsdkecs.request.v20140526.DeleteSnapshotRequest import DeleteSnapshotRequest
    from aliyunsdkecs.request.v20140526.DescribeImagesRequest import DescribeImagesRequest
    from aliyunsdkecs.request.v20140526.DescribeSnapshotsRequest import DescribeSnapshotsRequest
    from aliyunsdkecs.request.v20140526.ModifyImageSharePermissionRequest import ModifyImageSharePermissionRequest
    from aliyunsdkecs.request.v20140526.TagResourcesRequest import TagResourcesRequest
    from requests.utils import get_environ_proxies
except ImportError as error:
    sys.exit(f"main.py: error: {error}: install the packages of requirements.txt (pip install -r requirements.txt)")

# A build may become a bootimage weeks later: over 66 bumps (4.10 to 4.18) the lag was 1 day (median), 16 days (most).
YOUNG = timedelta(days=30)

# The vendor closed these regions on that day, with all that was in them (The Register, 2024-07-01). `cn-nanjing` and
# `cn-fuzhou` are closing; no date is published.
CLOSED_REGIONS = {"ap-south-1": "2024-07-15", "ap-southeast-2": "2024-09-30"}

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

LOOK_SECONDS = 60  # Make no change on an older look: somebody may have pinned the image since.
PAGE_SIZE = 100  # the most that GitHub and ECS list, and the most IDs in a call
LOOK_LIMIT = PAGE_SIZE - 1  # and the witness
TAG_LIMIT = 50  # TagResources: the most IDs

WEB_THREADS = 16
WEB_BATCH = 320  # documents; so few that hopeless ones are noticed in time
REGION_THREADS = 4  # in each region

CONNECT_TIMEOUT = 10  # seconds

GITHUB_API = "https://api.github.com/repos/openshift/installer"
GITHUB_RAW = "https://raw.githubusercontent.com/openshift/installer"
STREAM_METADATA = "data/data/coreos/rhcos.json"
# The commit that brought the file to this path: the oldest one in the list of every release branch.
OLDEST_COMMIT = "61605bdcac8d24dc380cfe27e8d29678e0ffdc38"
STORE = "https://rhcos.mirror.openshift.com/art/storage"
ABSENT = ("403", "404")  # what the store answers for what it does not have

MARK = "rhcos-aliyun-pruner"  # the key of the tag of snapshots behind deleted images; its value is the release
SECRETS = ("ALIYUN_ACCESS_KEY_ID", "ALIYUN_ACCESS_KEY_SECRET", "ALIYUN_SECURITY_TOKEN", "GITHUB_TOKEN")
PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")  # the first that is not empty counts, as for curl

# Foreign data becomes part of URLs, of host names and of comma-separated lists: only safe characters are accepted.
BUILD_ID = re.compile(r"[0-9]+\.[0-9]+\.([0-9]{12})-[0-9]+")

# Reasons to keep an image, or not to look for images of a build
BOOTIMAGE = "bootimage"
MISSING = "missing"
IN_CLOSED_REGION = "in a closed region"
NOT_LISTED = "not listed, and no image in this region shows that listings are complete"

Record = dict[str, list[dict[str, Any]]]
Builds = dict[str, dict[str, bool]]  # the URLs of each build's meta.json, and whether it is a tombstone there
Uploads = dict[str, list["Image"]]  # the images that each build uploaded
Item = TypeVar("Item")
Answer = TypeVar("Answer")

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
    pin: str  # why nobody may delete it, or an empty string
    tag: str  # the value of its tag `bootimage`, or an empty string
    name: str
    snapshots: tuple[str, ...]  # IDs
    complete: bool  # Its disks are shown if it must have some.


class History(NamedTuple):
    """What the versions of rhcos.json on the release's branch name."""

    release: str  # such as 4.10
    builds: frozenset[str]  # the bootimages
    images: dict[str, Image]  # by ID
    directories: list[str]  # of the store


class Release(NamedTuple):
    """What a run knows of the release once everything is read."""

    history: History
    builds: Builds  # every build in a builds.json
    missing: list[str]  # directories that rhcos.json names, and the store does not have
    uploads: Uploads  # of the builds that were read
    bootimages: dict[str, Image]  # the images that rhcos.json names or its builds uploaded, by ID
    listed: dict[Image, bool]  # the images that any list names, and whether they are to be looked at
    read: frozenset[str]  # the builds whose images are known, by their meta.json or the record


# What goes wrong


class OutsideError(Exception):
    """A service refused a call, or sent an unexpected answer: the job that the call was for has failed.

    The message says what happened and what to do. `code` is the error code or HTTP status, if there is one.
    """

    remedy = ""

    def __init__(self, message: str, code: str = "", seconds: float = 0.0) -> None:
        super().__init__(message + self.remedy)
        self.code = code
        self.seconds = seconds


class Refusal(OutsideError):
    """The run ends before it changes anything."""


class DeniedError(OutsideError):
    """The credentials were refused, or they lack the permission for this, or a certificate cannot be verified.

    If nothing but this is answered, work in a region ends; a job is tried again after all others.
    """


class PassingError(OutsideError):
    """The call may succeed later, in `seconds`: the job stays open until there is no hope."""

    remedy = "; try again later"


class LostError(PassingError):
    """After `seconds` there was no usable answer: the call may or may not have been carried out."""


class ThrottledError(PassingError):
    """Too many calls; the next one is allowed in `seconds`. It says nothing of the job."""


def as_expected(error: Exception) -> OutsideError:
    """The error itself, or one that says that no part of this program expects it. Raises a Refusal: it ends the run."""
    if isinstance(error, Refusal):
        raise error
    if isinstance(error, OutsideError):
        return error
    log.debug("unexpected", exc_info=error)
    return OutsideError(f"unexpected {one_line(repr(error))}: please report it, with the log of a run with --debug")


# Jobs, and the loop that works them off


class State(Enum):
    OPEN = "not looked at"
    ACCEPTED = "accepted"  # Its deletion was answered, and waits for the confirmation.
    # The others are final.
    DONE = "done"  # read, or tagged
    DELETED = "deleted"
    GONE = "already gone"
    KEPT = "kept"
    FAILED = "failed"
    TO_TAG = "to tag"  # This one and the next only in a dry run.
    TO_DELETE = "to delete"


# What shows that changes are possible. That a look shows what to keep is no sign of that.
ACCEPTANCE = (State.DONE, State.ACCEPTED, State.DELETED, State.FAILED)


def read_clocks() -> tuple[float, float]:
    """Seconds by a clock that goes on while the machine sleeps, and by one that nobody can set."""
    return time.time(), time.monotonic()


class Job:
    """A document, an image or a snapshot: its state, and why."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.state = State.OPEN
        self.reason = ""  # why it is kept or gone
        self.error: OutsideError | None = None  # why it has failed, or is still open after its last batch
        self.company = sys.maxsize  # the largest batch in which it may stand
        self.asked = False  # Its deletion was asked for.

    def __str__(self) -> str:
        return self.name

    def settle(self, state: State, reason: str = "", error: OutsideError | None = None) -> None:
        self.state, self.reason, self.error = state, reason, error

    def fail(self, error: OutsideError) -> None:
        """Fail by an error, or stay open if another call may succeed."""
        passes = isinstance(error, (PassingError, DeniedError))
        self.settle(State.OPEN if passes else State.FAILED, error=error)


AnyJob = TypeVar("AnyJob", bound=Job)


class ImageJob(Job):
    """An image to be kept or pruned."""

    def __init__(self, image: Image, seen: Seen | None = None) -> None:
        super().__init__(str(image))
        self.image = image
        self.seen = seen  # by the last answer that listed it
        self.listed = False  # by the last look

    @property
    def snapshots(self) -> tuple[str, ...]:
        return self.seen.snapshots if self.seen else ()


class SnapshotJob(Job):
    """A snapshot to be kept or deleted."""

    def __init__(self, region: str, id: str, behind: Image | None) -> None:
        super().__init__(f"{region} {id}")
        self.id = id
        self.behind = behind  # the image that this run deleted


def work_off(jobs: Iterable[AnyJob], work: Callable[[list[AnyJob]], None], size: int, patience: Patience) -> None:
    """Work in batches until each job has a final state or waits to be confirmed. Raises nothing but a Refusal.

    `work` gives each job of a batch its state or its error. What it raises is the error of a call for all of them that
    are still open without one. A job with an error is tried again after all others; one that was not reached, because
    its look became too old or the batch ended early, comes first. When there is no hope, all that is left has failed.
    """
    queue = deque(jobs)
    while queue:
        batch, started = next_batch(queue, size), time.monotonic()
        try:
            work(batch)
        except Exception as raised:
            share_error(batch, as_expected(raised))
        left = [job for job in batch if job.state is State.OPEN]
        tried = [job for job in left if job.error and not isinstance(job.error, ThrottledError)]
        queue.extend(tried)
        queue.extendleft(job for job in reversed(left) if job not in tried)
        errors = [job.error for job in left if job.error]
        if len(left) == len(batch) and not errors:
            errors = [LostError(f"no answer was younger than {LOOK_SECONDS} seconds")]
        is_progress = not left or any(job.state in ACCEPTANCE for job in batch)
        if not patience.wait(is_progress, errors, time.monotonic() - started):
            others = OutsideError(summary_of(errors[-1]), errors[-1].code)  # not reached in the last round
            for job in queue:
                job.settle(State.FAILED, error=job.error or others)
            return


def next_batch(queue: deque[AnyJob], size: int) -> list[AnyJob]:
    """Take the next jobs from the queue, as many as each of them may stand with."""
    batch: list[AnyJob] = []
    while queue and len(batch) < min(size, queue[0].company):
        size = min(size, queue[0].company)
        batch.append(queue.popleft())
        batch[-1].error = None
    return batch


def share_error(batch: Collection[Job], error: OutsideError) -> None:
    """Give the error of a call for several jobs to those that are open without one.

    Nobody is to blame yet: they are tried again in a quarter of their company, down to alone. Throttling says nothing.
    """
    left = [job for job in batch if job.state is State.OPEN and not job.error]
    for job in left:
        if len(left) == 1:
            job.fail(error)
        job.error = error
        if not isinstance(error, ThrottledError):
            job.company = max(1, len(left) // 4)


ending = threading.Event()  # The process is about to end: nothing new is begun.


def call_each(act: Callable[[AnyJob], None], jobs: Iterable[AnyJob], threads: int) -> None:
    """Call `act` with each job side by side; what it raises is the job's error. Raises a Refusal at once.

    Ends early when the others would meet the same: at a throttled call, or if more were lost or denied than done. The
    jobs that were not reached stay as they are.
    """
    failures, ended = list[bool](), threading.Event()

    def attempt(job: AnyJob) -> None:
        # A newer look may have settled it while it waited for a thread.
        if ended.is_set() or ending.is_set() or job.state is not State.OPEN:
            return
        try:
            act(job)
        except Exception as raised:
            job.fail(as_expected(raised))
        failures.append(isinstance(job.error, (LostError, DeniedError)))
        if isinstance(job.error, ThrottledError) or failures.count(True) > max(1, failures.count(False)):
            ended.set()

    pool = ThreadPoolExecutor(threads)
    calls = wait([pool.submit(attempt, job) for job in jobs], return_when=FIRST_EXCEPTION).done
    pool.shutdown(wait=False, cancel_futures=True)  # After a refusal, other calls may hang.
    for call in calls:
        call.result()


MOST_REFUSED = {DeniedError: 3, OutsideError: 9}  # rounds in a row
MOST_LOST = (3, 60)  # rounds in a row, and seconds
MOST_THROTTLED = 900  # seconds
MOST_HUNG = 300  # seconds


@dataclass
class Patience:
    """Waits between two rounds of work in a region or on the web, and knows when there is no hope.

    All loops over a region share one, so that an outage is not waited for again in each. It has a clock for each thing:

    - lost: rounds without progress in which a call was lost; no hope after three of them in a row and a minute;
    - throttled: the time since the first throttled call without progress; no hope after a quarter of an hour;
    - refused: rounds in a row without progress; no hope after three in which a call was denied, or nine in which one
      for a whole batch was refused with another code;
    - hanging: the time of all rounds in which a call hung while others were answered; no hope after five minutes and
      half of the time of all rounds. It is never reset.
    """

    rounds: Counter[type[OutsideError]] = field(default_factory=Counter)  # with such an error, since there was progress
    since: dict[type[OutsideError], float] = field(default_factory=dict)  # when the first of these rounds began
    worked: float = 0.0  # seconds of all rounds
    hung: float = 0.0  # seconds

    def wait(self, is_progress: bool, errors: Collection[OutsideError], seconds: float) -> bool:
        """Wait for as long as the errors of a round of so many seconds ask for; False if there is no hope any more."""
        now, kinds = time.monotonic(), {type(error) for error in errors}
        hangs = any(isinstance(error, LostError) and error.seconds >= CONNECT_TIMEOUT for error in errors)
        pause = max((error.seconds for error in errors if not isinstance(error, LostError)), default=0.0)
        self.worked += seconds
        self.hung += seconds if hangs else 0.0
        if is_progress:
            self.rounds, self.since = Counter(), {}
        else:
            self.rounds.update(kinds)
            self.since = dict.fromkeys(kinds, now - seconds) | self.since
        lasted = {kind: now - self.since.get(kind, now) for kind in kinds}
        is_lost = self.rounds[LostError] >= MOST_LOST[0] and lasted.get(LostError, 0.0) >= MOST_LOST[1]
        is_spent = lasted.get(ThrottledError, 0.0) >= MOST_THROTTLED
        is_refused = any(self.rounds[kind] >= MOST_REFUSED.get(kind, sys.maxsize) for kind in kinds)
        if is_lost or is_spent or is_refused or (hangs and self.hung >= max(MOST_HUNG, self.worked / 2)):
            return False
        if ThrottledError in kinds:
            progress.throttled_until = time.time() + pause
            time.sleep(pause)
        elif not is_progress:
            time.sleep(pause or min(5, 0.25 * 2 ** self.rounds[LostError]) * random.uniform(0.5, 1))
        return True


def insist(call: Callable[[], Answer], patience: Patience) -> Answer:
    """Call until there is an answer. Raises the error of a refusal, or of lost answers when there is no hope."""
    while True:
        started = time.monotonic()
        try:
            answer = call()
            patience.wait(True, [], time.monotonic() - started)
            return answer
        except PassingError as error:
            if not patience.wait(False, [error], time.monotonic() - started):
                raise


def list_all(fetch: Callable[[int], dict[str, Answer]], patience: Patience) -> dict[str, Answer]:
    """Read all pages of a listing, until one is not full or has no news: a listing can shift between two pages."""
    listed: dict[str, Answer] = {}
    for number in itertools.count(1):
        page = insist(partial(fetch, number), patience)
        is_last = len(page) < PAGE_SIZE or page.keys() <= listed.keys()
        listed.update(page)
        if is_last:
            break
    return listed


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


class Progress:
    """What a person asks of a run under way: how far it is, who is throttled, how long it has taken."""

    def __init__(self) -> None:
        self.run_started = time.monotonic()
        self.throttled_until = 0.0  # seconds since the epoch
        self.what, self.jobs = "starting", list[Job]()

    def elapsed(self) -> timedelta:
        return timedelta(seconds=round(time.monotonic() - self.run_started))

    def __str__(self) -> str:
        done = sum(job.state is not State.OPEN for job in self.jobs)
        parts = [f"{self.what} {done:,} of {len(self.jobs):,}" if self.jobs else self.what]
        if self.throttled_until > time.time():
            parts.append(f"throttled until {datetime.fromtimestamp(self.throttled_until).astimezone():%H:%M:%S %Z}")
        return ", ".join([*parts, str(self.elapsed())])


def what_was_deleted() -> str:
    """The end of a last line, once a deletion was asked for: one counts when it is answered."""
    deleted = [type(job) for job in progress.jobs if job.state in (State.ACCEPTED, State.DELETED)]
    images, snapshots = plural(deleted.count(ImageJob), "image"), plural(deleted.count(SnapshotJob), "snapshot")
    return f": at least {images} and {snapshots} deleted" if any(job.asked for job in progress.jobs) else ""


progress = Progress()


# Foreign data


@contextlib.contextmanager
def parsing(what: str, error_type: type[OutsideError]) -> Iterator[None]:
    """Raise such an error if foreign data has another shape than expected."""
    try:
        yield
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise error_type(f"{what} is not what this program knows ({one_line(repr(error))})") from None


def as_list(value: object) -> list[Any]:
    """The value; raises TypeError unless it is a list."""
    if not isinstance(value, list):
        raise TypeError(f"{excerpt(value)} is not a list")
    return value


def parse_image(build: str, region: object, image: object) -> Image:
    """Make an Image of foreign data; raises ValueError unless region and ID look like those of ECS."""
    if not (isinstance(region, str) and re.fullmatch("[a-z]{2,}(-[a-z0-9]+)+", region)):
        raise ValueError(f"{excerpt(region)} is not a region")
    if not (isinstance(image, str) and re.fullmatch("[A-Za-z0-9_-]+", image)):
        raise ValueError(f"{excerpt(image)} is not an image ID")
    return Image(region, image, build)


def parse_tags(listed: Any) -> dict[str, str]:
    """The tags of an image or a snapshot, by key in lower case: ECS holds keys unique without regard to case.

    If it shows two capitalisations of `bootimage` all the same, one pin is enough.
    """
    tags: dict[str, str] = {}
    for tag in listed["Tags"]["Tag"]:
        key, value = str(tag["TagKey"]).casefold(), str(tag["TagValue"])
        tags[key] = tags[key] if pin_of(tags) and key == "bootimage" else value
    return tags


def pin_of(tags: dict[str, str]) -> str:
    """Why nobody may delete what has these tags: a person's wish is any value but `false`; or an empty string."""
    value = tags.get("bootimage", "")
    return f"pinned by its tag bootimage={one_line(value)}" if value.casefold() not in ("", "false") else ""


def parse_seen(listed: Any) -> Seen:
    """What DescribeImages says of an image; raises KeyError if it says nothing of tags."""
    tags = parse_tags(listed)
    disks = listed.get("DiskDeviceMappings", {}).get("DiskDeviceMapping", [])
    snapshots = tuple(str(disk["SnapshotId"]) for disk in disks if disk.get("SnapshotId"))
    return Seen(
        own=listed.get("ImageOwnerAlias") == "self",
        public=bool(listed.get("IsPublic")),
        in_use=listed.get("Usage") != "none",
        complete=0 < len(disks) == len(snapshots) or listed.get("Status") == "CreateFailed",
        pin=pin_of(tags),
        tag=tags.get("bootimage", "").casefold(),
        name=str(listed.get("ImageName", "")),
        snapshots=snapshots,
    )


def one_line(text: object, most: int = 300) -> str:
    """Foreign text for a message: without line breaks, and redacted before it is cut."""
    line = redact(" ".join(str(text).split()))
    return line if len(line) <= most else f"{line[:most]}..."


def excerpt(value: object) -> str:
    """The beginning of foreign data, for a message."""
    return one_line(ascii(value), 100)


def redact(text: str) -> str:
    """Redact credentials, which API errors and URLs contain, and those of the proxy that read_environment chose."""
    secrets = {os.environ.get(name, "").strip(): name for name in SECRETS}
    quoted = os.environ.get("HTTPS_PROXY", "").rpartition("@")[0].rpartition("/")[2]
    for userinfo in (quoted, unquote(quoted)):
        # The user alone is no secret, unless there is no password.
        secrets.update(dict.fromkeys((userinfo, userinfo.partition(":")[2]), "HTTPS_PROXY"))
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:  # A shorter password cannot be redacted without garbling the log.
            text = text.replace(secret, f"<{secrets[secret]}>")
    return re.sub(r"(Basic |(?:Signature|SecurityToken)(?:=|%3D))[^&\s'\")]+", r"\1<redacted>", text)


def words_of(error: object) -> str:
    """Why a call failed: the innermost words of an error that requests or the SDK has wrapped into several others."""
    text = str(error)
    cause = text.partition("(Caused by ")[2] or (text if text.startswith("(") else "")
    quoted = re.findall(r"\"([^\"]+)\"|'([^']+)'", cause)
    return one_line(re.sub(r"^.*(Pool|Connection)\(.*?\): |^<.*?>: ", "", "".join(quoted[-1]) if quoted else text))


def explain_failure(what: str, error: object, ca: object, seconds: float) -> OutsideError:
    """The error of a call that requests could not make, with what to do; `ca` is a file or folder, or True."""
    text, words = str(error), f"{what}: {words_of(error)}"
    if re.search(r"VERIFY_FAILED|TLS CA certificate|\[X509", text):
        used = "the package certifi" if ca is True else ca
        variables = "REQUESTS_CA_BUNDLE, or ALIBABA_CLOUD_CA_BUNDLE for Alibaba Cloud"
        return DeniedError(f"{words}: check {used} ({variables}), HTTPS_PROXY, and this machine's clock")
    if re.search("Tunnel connection failed: 4(?!08|29)", text):
        return DeniedError(f"{words}: the proxy refuses that: check HTTPS_PROXY, and what the proxy allows")
    return LostError(f"{words}: check network and proxy", seconds=seconds)


# The services


class Environment(NamedTuple):
    """The environment variables that a run uses, checked."""

    key_id: str
    secret: str
    security_token: str  # of a temporary key, or an empty string
    github_token: str
    web_ca: str | bool  # a file or folder of CA certificates, or True for those of certifi
    ecs_ca: str | bool


# urllib3 would take what follows an unencoded @, #, / or \ in a password as the host, and ask the DNS for it.
PROXY = re.compile(
    r"https?://([^\s@/?#:\\\[\]]+(:[^\s@/?#:\\\[\]]*)?@)?"
    r"([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?"
)


def read_environment() -> Environment:
    """Read and check the environment variables; no message contains a value but that of a CA variable."""
    secrets = {name: os.environ.get(name, "").strip() for name in SECRETS}
    missing = [name for name in SECRETS[:2] if not secrets[name]]
    if missing:
        raise Refusal(f"{' and '.join(missing)} not set, or empty: set the environment variables of the access key")
    for name, value in secrets.items():
        if value and (not re.fullmatch(r"[!-~]{8,}", value) or value.strip("'\"") != value):
            words = "is malformed: it is too short, or contains quotation marks or unusual characters"
            raise Refusal(f"the environment variable {name} {words}")
    name = next((name for name in PROXIES if os.environ.get(name)), "")
    proxy = os.environ.get(name, "")
    proxy = proxy if not proxy or "://" in proxy else f"http://{proxy}"
    if proxy and not (proxy.isascii() and PROXY.fullmatch(proxy)):
        words = f"the environment variable {name} is not of the form http://user:password@host:port"
        raise Refusal(f"{words}: correct it; write @ : / # ? \\ in user and password as %40 %3A %2F %23 %3F %5C")
    os.environ.update(dict.fromkeys(PROXIES if proxy else (), proxy))  # requests and the SDK read the same.
    key_id, secret, security_token, github_token = secrets.values()
    if key_id.startswith("STS.") and not security_token:
        raise Refusal(f"{SECRETS[2]} is not set, or empty: a temporary key (STS.) needs its token")
    ca = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True  # "" would switch it off.
    ecs_ca = os.environ.get("ALIBABA_CLOUD_CA_BUNDLE") or ca
    return Environment(key_id, secret, security_token, github_token, ca, ecs_ca)


def new_session(ca: str | bool, connections: int) -> requests.Session:
    """A session for HTTPS only. It reads neither ~/.netrc, which would replace GITHUB_TOKEN, nor the environment."""
    session = requests.Session()
    session.trust_env = False
    session.verify = ca
    del session.adapters["http://"]
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=connections))
    return session


class Web:
    """GitHub and the RHCOS store over kept-alive connections. GITHUB_TOKEN is sent to api.github.com only."""

    def __init__(self, environment: Environment) -> None:
        self.session = new_session(environment.web_ca, WEB_THREADS)
        self.token = environment.github_token

    def get_json(self, url: str, missing: str = "") -> Any:
        """GET a JSON document; `missing` explains a 404 of GitHub. A body that is no JSON is a lost answer."""
        headers = {}
        if url.startswith(GITHUB_API):
            headers["Accept"] = f"application/vnd.github{'.raw' if '/contents/' in url else ''}+json"
            if self.token:
                headers["Authorization"] = f"Bearer {self.token}"
        started, timeout = time.monotonic(), (CONNECT_TIMEOUT, 20)  # seconds, the latter without a byte
        try:
            response = self.session.get(url, headers=headers, timeout=timeout, proxies=get_environ_proxies(url))
        except Exception as error:  # of any type, if a redirect leads to a malformed URL
            failure = explain_failure(url, error, self.session.verify, time.monotonic() - started)
            log.debug("GET %s in %.3f s", failure, time.monotonic() - started)
            raise Refusal(str(failure)) if isinstance(failure, DeniedError) else failure from None
        seconds, status = time.monotonic() - started, response.status_code
        log.debug("GET %s: %s in %.3f s", url, status, seconds)
        if status == 200:
            with parsing(url, LostError):
                return json.loads(response.content)
        is_github = url.startswith((GITHUB_API, GITHUB_RAW))
        if status >= 500 or (status == 429 and not is_github):  # The limits of GitHub are by the hour.
            raise LostError(f"{url}: HTTP status {status}", str(status), seconds)
        if is_github:
            raise Refusal(explain_github_error(response, missing, bool(self.token)))
        raise OutsideError(f"{url}: HTTP status {status}", str(status))


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
        remedy = f"a rate limit: run again after {one_line(headers.get('Retry-After', 3600))} seconds{or_token}"
    elif status == 403 and not words and "X-RateLimit-Limit" not in headers:
        remedy = "another server answers for this host: check HTTPS_PROXY"
    elif status in (401, 403):
        remedy = "unset or replace GITHUB_TOKEN" if token else "set GITHUB_TOKEN"
    else:
        remedy = "GitHub may have changed: look for a newer version of this program"
    said = one_line(words[1].decode(errors="replace")) if words else "no message"
    return f"{response.url}: HTTP status {status} ({said}): {remedy}"


class Ecs:
    """The ECS API (2014-05-26) of one region, for several threads."""

    def __init__(self, region: str, environment: Environment) -> None:
        self.region = region
        self.security_token = environment.security_token
        key = (environment.key_id, environment.secret)
        # Seconds; the SDK's own table grants DescribeImages 38 and DeleteImage 36.
        timeouts = {"connect_timeout": CONNECT_TIMEOUT, "timeout": 40}
        self.client = AcsClient(*key, region, auto_retry=False, verify=environment.ecs_ca, **timeouts)
        # The SDK brings a requests and urllib3 of 2019, which send no server name from Python 3.12 on.
        self.client.session = new_session(environment.ecs_ca, REGION_THREADS + 1)

    def list_images(self, page: int = 1, **filters: str) -> dict[str, Seen]:
        """A page of the images, or up to 100 by ImageId. The answer may list images of other accounts: see Seen.own.

        Without Status, every image that is not Available would be left out.
        """
        every_status = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"
        return self.list_page("Image", parse_seen, page, Status=every_status, **filters)

    def list_snapshots(self, page: int = 1, **filters: str) -> dict[str, dict[str, str] | None]:
        """The tags of a page of the account's snapshots, or of up to 100 by SnapshotIds.

        A filter by tag would list no more than 1,000. Old samples of the answer show no Tags where there are none.
        """
        return self.list_page("Snapshot", lambda each: parse_tags(each) if "Tags" in each else None, page, **filters)

    def list_page(self, kind: str, parse: Callable[[Any], Answer], page: int, **filters: str) -> dict[str, Answer]:
        """A page of a listing, by ID. One that does not hold what its TotalCount promises is a lost answer."""
        request_type = {"Image": DescribeImagesRequest, "Snapshot": DescribeSnapshotsRequest}[kind]
        answer = self.call(request_type, PageSize=PAGE_SIZE, PageNumber=page, **filters)
        with parsing(f"the answer to Describe{kind}s", LostError):
            seen = {str(each[f"{kind}Id"]): parse(each) for each in answer[f"{kind}s"][kind]}
            expected = min(PAGE_SIZE, max(0, answer["TotalCount"] - (page - 1) * PAGE_SIZE))
        if len(seen) != expected:
            raise LostError(f"Describe{kind}s: the answer lists {len(seen)} of {expected}")
        return seen

    def call(self, request_type: type[Any], done: Collection[str] = (), **parameters: object) -> dict[str, Any]:
        """Call an operation once, and return its answer; error codes that say that nothing is left to do are success.

        Every answer is an object with a RequestId; anything else, as a proxy's page, is a lost answer.
        """
        request = request_type()
        request.set_protocol_type("https")
        # Every region has an endpoint of this name; the SDK would ask another service for those that it does not know.
        request.set_endpoint(f"ecs.{self.region}.aliyuncs.com")
        for name, value in parameters.items():
            getattr(request, f"set_{name}")(value)
        if self.security_token:
            request.add_query_param("SecurityToken", self.security_token)
        operation, started = request_type.__name__[: -len("Request")], time.monotonic()
        ids = [value for name, value in parameters.items() if name.endswith(("Id", "Ids"))]
        about = f"{self.region} {operation} {str(ids)[:300]}"
        try:
            body = self.client.do_action_with_exception(request)
            answer = json.loads(body)
            if not (isinstance(answer, dict) and answer.get("RequestId")):
                raise TypeError(f"unexpected answer {excerpt(body)}")
        except Exception as error:
            # An answer that the SDK does not expect ends in an exception of any type within it.
            failure = self.explain(operation, error, time.monotonic() - started)
            log.debug("%s: %s in %.3f s", about, failure, time.monotonic() - started)
            if failure.code in done:
                return {}
            raise failure from None
        log.debug("%s: ok, RequestId %s in %.3f s", about, answer["RequestId"], time.monotonic() - started)
        return answer

    def explain(self, operation: str, error: Exception, seconds: float) -> OutsideError:
        """What a failed call means. https://api.alibabacloud.com/document/Ecs/2014-05-26/errorCode"""
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
            return DeniedError(f"ecs:{message}: grant ecs:{operation} to the key, or see which policy denies it", code)
        # It is answered for a while after the image has left the listing (aliyun/terraform-provider-alicloud#3403).
        if code == "SnapshotCreatedImage" and operation == "DeleteSnapshot":
            return PassingError(message, code, 10.0)
        if status >= 500 or status in (408, 429) or PASSING.fullmatch(code):
            return LostError(message, code, seconds)
        return OutsideError(message, code)


CREDENTIALS_REFUSED = re.compile(
    r"InvalidAccessKeyId(\..+)?|InvalidAccessKeySecret|SignatureDoesNotMatch|IncompleteSignature"
    r"|Forbidden(\.AccessKey|\.AccessKeyDisabled|\.RiskControl|\.UserVerification)?"
    r"|NoEnabledAccessKey|InvalidSecurityToken.*|MissingSecurityToken|InvalidTimeStamp\.Expired|IllegalTimestamp"
)
PERMISSION_LACKING = re.compile(r"Forbidden\.RAM|Forbidden\.NotSupportRAM|NoPermission.*")
# These pass, with whatever status (aliyun/terraform-provider-alicloud#3437, aliyun/alibaba-cloud-sdk-go#39).
PASSING = re.compile(
    r"SignatureNonceUsed|Operation(Conflict|Denied\.ImageCopying)|SystemBusy|ServiceUnavailable.*|InternalError"
)


# Steps 1 and 2: the history of rhcos.json


Fetched = tuple[dict[Item, Answer], dict[Item, OutsideError]]


def fetch_all(web: Web, fetch: Callable[[Item], Answer], items: Iterable[Item], what: str) -> Fetched[Item, Answer]:
    """Fetch something from the web for each item side by side; returns the answers, and why others failed.

    Raises a Refusal as soon as one is met.
    """
    answers: dict[Item, Answer] = {}
    documents = {Job(): item for item in items}

    def read(document: Job) -> None:
        answers[documents[document]] = fetch(documents[document])
        document.settle(State.DONE)

    progress.what, progress.jobs = what, list(documents)
    work_off(documents, partial(call_each, read, threads=WEB_THREADS), WEB_BATCH, Patience())
    web.session.close()
    return answers, {item: document.error for document, item in documents.items() if document.error}


def list_commits(web: Web, release: str) -> list[str]:
    """List the SHAs of the commits on the release's branch that touched rhcos.json, newest first.

    The list may be cut short, with status 200 (NixOS/nixpkgs-committers#100), so it is believed only if it ends with
    the oldest commit. https://docs.github.com/rest/commits/commits#list-commits
    """
    progress.what, progress.jobs = "listing commits", []
    missing = f"openshift/installer has no branch release-{release}: check the release"

    def fetch(start: str, page: int) -> dict[str, None]:
        url = f"{GITHUB_API}/commits?sha={start}&path={STREAM_METADATA}&per_page={PAGE_SIZE}&page={page}"
        answer = web.get_json(url, missing)
        with parsing(url, Refusal):
            return {re.fullmatch("[0-9a-f]{40}", commit["sha"])[0]: None for commit in as_list(answer)}  # type: ignore[index]

    try:
        commits = list(insist(lambda: fetch(f"release-{release}", 1), Patience()))
        if len(commits) >= PAGE_SIZE:
            # The history of a commit cannot change between two pages, as a branch can.
            commits = list(list_all(partial(fetch, commits[0]), Patience()))
    except LostError as error:
        raise Refusal(f"GitHub did not list the commits: {error}") from None
    if commits[-1:] != [OLDEST_COMMIT]:
        words = f"GitHub's list of the commits that changed rhcos.json on release-{release} is incomplete"
        end = f"its {len(commits)} commits do not end with the oldest one, {OLDEST_COMMIT[:7]}"
        raise Refusal(f"{words}: {end}: run again later")
    return commits


def read_history(web: Web, release: str) -> History:
    """Read what the versions of rhcos.json on the release's branch name. Each of them must be read."""
    commits = list_commits(web, release)
    versions, failed = fetch_all(web, partial(fetch_version, web, release), commits, "versions of rhcos.json read")
    for commit, error in failed.items():
        raise Refusal(f"rhcos.json of commit {commit} could not be read: {error}")
    for commit in commits:
        image_log.info("commit %s names %s", commit, ", ".join(sorted(versions[commit].builds)))
    builds = frozenset(build for version in versions.values() for build in version.builds)
    images = {id: image for version in versions.values() for id, image in version.images.items()}
    if not images:
        raise Refusal(f"no version of rhcos.json on release-{release} names an Aliyun bootimage: check the release")
    counts = f"{len(builds)} builds and {len(images)} Aliyun images"
    log.info("%d versions of rhcos.json on release-%s name %s", len(commits), release, counts)
    directories = {directory for version in versions.values() for directory in version.directories}
    return History(release, builds, images, sorted(directories))


def fetch_version(web: Web, release: str, commit: str) -> History:
    """Fetch what rhcos.json of a commit names.

    raw.githubusercontent.com costs no budget of the API, but has a limit that no token lifts (mozilla/cargo-vet#672).
    A 404 is never believed: on 2025-08-08 it answered that for files that existed (aquaproj/aqua-registry#39883).
    """
    by_api = f"{GITHUB_API}/contents/{STREAM_METADATA}?ref={commit}"
    missing = f"rhcos.json of commit {commit} was not found: if release-{release} has no such file any more, it has no "
    missing += "Aliyun images; otherwise run again later"
    document = web.get_json(by_api if web.token else f"{GITHUB_RAW}/{commit}/{STREAM_METADATA}", missing)
    with parsing(f"rhcos.json of commit {commit}, which says what to keep,", Refusal):
        return parse_version(document, release)


# In rhcos.json, the location of an artifact: DIRECTORY/BUILD/ARCHITECTURE/FILE
ARTIFACT = re.compile(r'/art/storage/([A-Za-z0-9._/-]+)/([^/"]+)/([^/"]+)/[^/"]+"')


def parse_version(document: Any, release: str) -> History:
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
    builds = frozenset(match[0] for match in BUILD_ID.finditer(unquote(text)))
    return History(release, builds, {image.id: image for image in images}, directories)


def is_of_release(build: str, release: str) -> bool:
    """Whether the ID is of this release: those of 4.10 begin with `410.`."""
    return build.startswith(release.replace(".", "") + ".")


# Step 3: every build


def find_builds(web: Web, history: History) -> tuple[Builds, list[str]]:
    """Find every build in the directories that the history names and in the usual ones.

    Also returns the named directories that the store does not have.
    """
    usual = [directory.format(release=history.release) for directory in USUAL_DIRECTORIES]
    directories = list(dict.fromkeys([*history.directories, *usual]))
    listings, failed = fetch_all(web, partial(fetch_listing, web), directories, "builds.json read")
    for error in failed.values():
        if error.code not in ABSENT:
            raise Refusal(f"the builds could not be listed: {error}")
    if not listings:
        words = f"the store has no builds.json of release {history.release}"
        raise Refusal(f"{words}: check the release, and whether another server answers (HTTPS_PROXY)")
    builds: Builds = defaultdict(dict)
    for directory in directories:
        for build, urls in listings.get(directory, {}).items():
            builds[build] |= urls
    return dict(sorted(builds.items(), reverse=True)), sorted(failed.keys() & set(history.directories))


def fetch_listing(web: Web, directory: str) -> Builds:
    """Fetch a builds.json: each build with the URLs of its meta.json, one per architecture that ECS offers.

    `{"builds": [{"id": ..., "arches": ["x86_64"]}], "tombstone-builds": [...]}`; the tombstones are builds that
    coreos-assembler pruned. A build in both lists is no tombstone (coreos/coreos-assembler#3894).
    """
    url = f"{STORE}/{directory}/builds.json"
    listing = web.get_json(url)
    builds: Builds = defaultdict(dict)
    with parsing(url, Refusal):
        lists = {True: listing.get("tombstone-builds", []), False: listing["builds"]}
        for is_tombstone, entries in lists.items():
            for build in as_list(entries):
                arches = [arch for arch in ECS_ARCHITECTURES if arch in as_list(build["arches"])]
                urls = [f"{STORE}/{directory}/{build['id']}/{arch}/meta.json" for arch in arches]
                builds["" + build["id"]] |= dict.fromkeys(urls, is_tombstone)
    return builds


def reason_to_skip(build: str, history: History) -> str:
    """Why the images of a build are not considered for deletion, or an empty string."""
    if build in history.builds:
        return BOOTIMAGE
    match = BUILD_ID.fullmatch(build)
    try:
        built = datetime.strptime(f"{match[1] if match else ''}+0000", "%Y%m%d%H%M%z")
    except ValueError:
        return "no date in the build ID"
    if not is_of_release(build, history.release):
        return "build of another release"
    return f"build younger than {YOUNG.days} days" if datetime.now(timezone.utc) - built < YOUNG else ""


# Step 4: the images of each build


def find_uploads(web: Web, builds: Builds, history: History, record: Record) -> tuple[Uploads, dict[str, OutsideError]]:
    """Find the images that each build uploaded: of bootimages, and of builds to prune that are not on record.

    Also returns the builds that could not be read completely. Of a bootimage, what was read is known all the same.
    coreos-assembler deletes the meta.json of a tombstone, which had no Aliyun images (cmd-coreos-prune).
    """
    reasons = {build: reason_to_skip(build, history) for build in builds}
    for build, why in reasons.items():
        if why and why != BOOTIMAGE:
            image_log.info("build %s is left: %s", build, why)
    to_read = [build for build, why in reasons.items() if why == BOOTIMAGE or (not why and build not in record)]
    urls = [(build, url) for build in to_read for url in builds[build]]
    metas, failed = fetch_all(web, lambda item: fetch_uploads(web, *item), urls, "meta.json read")
    unread = {build: e for (build, url), e in failed.items() if not (builds[build][url] and e.code in ABSENT)}
    uploads: Uploads = {build: [] for build in to_read if not builds[build]}  # of no architecture that ECS offers
    for (build, _), images in metas.items():
        if build not in unread or build in history.builds:
            uploads[build] = list(dict.fromkeys([*uploads.get(build, []), *images]))
    return uploads, unread


def fetch_uploads(web: Web, build: str, url: str) -> list[Image]:
    """Fetch the images from a meta.json of coreos-assembler.

    It is an object with the build's ID in `buildid`, and `"aliyun": [{"name": region, "id": ID}]` if there are images.
    """
    meta = web.get_json(url)
    with parsing(url, OutsideError):
        if meta["buildid"] != build:
            raise ValueError(f"its buildid is {excerpt(meta['buildid'])}")
        return [parse_image(build, image["name"], image["id"]) for image in as_list(meta.get("aliyun", []))]


def read_store(web: Web, history: History, record: Record) -> tuple[Release, list[str]]:
    """Steps 3 and 4: read all that is to be known of the release; returns it, and a line for each problem."""
    builds, missing = find_builds(web, history)
    words = "rhcos.json names it, but the store has no builds.json there: run again later"
    problems = log_failures("RHCOS store", "folder", dict.fromkeys(missing, OutsideError(words)))
    uploads, unread = find_uploads(web, builds, history, record)
    # Nothing of a bootimage would be pruned.
    log_failures("RHCOS store", "bootimage build", {b: e for b, e in unread.items() if b in history.builds})
    problems += log_failures("RHCOS store", "build", {b: e for b, e in unread.items() if b not in history.builds})

    recorded = [build for build in record if is_of_release(build, history.release)]
    named = [(image, True) for images in uploads.values() for image in images]
    named += [(Image(e["region"], e["image"], build), not e["deleted"]) for build in recorded for e in record[build]]
    # An image that a bootimage's list names is one, whatever other list names it, too.
    bootimages = {image.id: image for image, _ in named if image.build in history.builds} | history.images
    listed = dict.fromkeys(bootimages.values(), True)
    for image, is_due in named:
        listed[image] = listed.get(image, False) or is_due
    known = {build for build in builds if reason_to_skip(build, history) in ("", BOOTIMAGE)} - unread.keys()
    read = frozenset([*recorded, *known])
    return Release(history, builds, missing, uploads, bootimages, listed, read), problems


# Step 5: look at every image, and decide


def reason_to_keep(image: Image, seen: Seen, release: Release) -> str:
    """Why an image must stay, or an empty string if it may be deleted; the only place that decides that.

    What the lists and the record say of an image is checked against its name, which says which build uploaded it:
    every upload and every copy is named BUILDNAME-BUILDID (coreos-assembler's src/cosalib/aliyun.py).
    """
    named = [match[0] for match in BUILD_ID.finditer(seen.name)]
    build = named[0] if len(named) == 1 else ""
    if image.id in release.bootimages or release.history.builds.intersection(named):
        return BOOTIMAGE
    if not seen.own:
        return "not the account's own"
    if seen.pin:
        return seen.pin
    if seen.in_use:
        return "used by an instance"
    if build not in release.builds:
        return f"its name has no ID of a build that a builds.json lists ({excerpt(seen.name)})"
    if not seen.complete:
        return "shown without disks, so that its snapshots are unknown"
    return reason_to_skip(build, release.history)


def check_listed(region: str, expected: Collection[str], seen: Collection[str], operation: str) -> None:
    """Raise LostError if an answer lacks what it must contain."""
    missing = sorted(set(expected) - set(seen))
    if missing:
        words = f"what should be there is not listed ({', '.join(missing[:3])})"
        raise LostError(f"{words}: check that the key's policy grants ecs:{operation} in {region}")


class Region:
    """Steps 5 and 6 in one region: look, decide, act, and look again."""

    def __init__(self, name: str, environment: Environment, args: argparse.Namespace) -> None:
        self.name, self.ecs, self.patience = name, Ecs(name, environment), Patience()
        self.args = args
        self.first_look = Job()  # at the bootimages; it fails if it shows none of the account
        self.witness: list[str] = []  # the ID of an image of the account that no run deletes
        self.listed: dict[Image, bool] = {}  # the part of Release.listed that is here
        self.own: dict[str, Seen] = {}  # the images of the account, by ID
        self.tagged: set[str] = set()  # images and snapshots that this run tagged: listings can lag behind
        self.looked_at = (0.0, 0.0)  # when the last look that was answered was asked for, by read_clocks
        self.images: list[ImageJob] = []
        self.snapshots: list[SnapshotJob] = []

    def look_first(self, history: History) -> None:
        """Look at the bootimages of the region, and make one of them its witness. Raises nothing."""
        jobs = [ImageJob(image) for image in history.images.values() if image.region == self.name][:PAGE_SIZE]
        try:
            insist(lambda: self.look(jobs), self.patience)
            self.witness = [job.image.id for job in jobs if job.seen and job.seen.own][:1]
            if not self.witness:
                words = f"none of the {len(jobs)} bootimages there is listed as the account's own"
                raise OutsideError(f"{words}: check that the key may call ecs:DescribeImages there")
            self.first_look.settle(State.DONE)
        except Exception as error:
            self.first_look.settle(State.FAILED, error=as_expected(error))
        self.ecs.client.session.close()

    def prune(self, release: Release) -> list[str]:
        """Tag the bootimages of the region, prune its other images, and sweep the snapshots. Raises nothing.

        Returns a line for each reason why something failed.
        """
        self.release = release
        self.listed = {image: is_due for image, is_due in release.listed.items() if image.region == self.name}
        self.images = [ImageJob(image) for image, is_due in self.listed.items() if is_due]
        if self.name in CLOSED_REGIONS:
            for job in self.images:
                job.settle(State.GONE, IN_CLOSED_REGION)
            return []
        problems = []
        try:
            self.list_own()
            self.warn_of_unnamed()
            self.order_images()
            work_off(self.images, self.prune_batch, LOOK_LIMIT, self.patience)
            self.confirm_deletions()
            if self.args.delete_snapshots:
                self.sweep()
        except Exception as raised:
            error = as_expected(raised)
            left = [job for job in self.images if job.state in (State.OPEN, State.ACCEPTED)]
            for job in left:
                job.settle(State.FAILED, error=error)
            if self.args.delete_snapshots:
                problems = [f"{self.name}: what snapshots are left is unknown: {error}"]
        self.ecs.client.session.close()
        problems += log_failures(self.name, "image", {job.image: job.error for job in self.images})
        return problems + log_failures(self.name, "snapshot", {job.id: job.error for job in self.snapshots})

    def order_images(self) -> None:
        """Bootimages first; otherwise in random order: what can never be done must not come first in every run."""
        # What the record calls deleted, and is there, is a candidate again.
        there = [image for image, is_due in self.listed.items() if not is_due and image.id in self.own]
        self.images += [ImageJob(image, self.own[image.id]) for image in there]
        random.shuffle(self.images)
        self.images.sort(key=lambda job: job.image.id not in self.release.bootimages)
        progress.jobs += self.images

    def list_own(self) -> None:
        """List the images of the account, and choose the witness if there is no bootimage for that.

        Raises OutsideError if they cannot be listed, unless there is a witness all the same. If nothing is shown where
        something should be, that is asked for again for a minute.
        """
        fetch, again = partial(self.ecs.list_images, ImageOwnerAlias="self"), Patience()
        own, failure = dict[str, Seen](), self.first_look.error
        try:
            own = list_all(fetch, self.patience)
            while any(self.listed.values()) and not own and again.wait(False, [LostError("nothing is listed")], 0.0):
                own = list_all(fetch, self.patience)
            check_listed(self.name, self.witness, own, "DescribeImages")
        except OutsideError as error:
            log.warning("%s: what no list names is unknown: %s", self.name, error)
            failure, own = failure or error, {}
        if failure and not own and not self.witness:
            hint = f"if {self.name} is closed for good, add it to CLOSED_REGIONS in main.py"
            raise failure if isinstance(failure, DeniedError) else OutsideError(f"{failure}; {hint}")
        self.own = {id: seen for id, seen in own.items() if seen.own}
        # No run deletes the first three kinds, and this one not the fourth.
        ranked = [id for id in self.own if id in self.release.bootimages]
        ranked += [id for id in self.own if self.own[id].pin]
        ranked += [id for id in self.own if not BUILD_ID.search(self.own[id].name)]
        ranked += [id for id in self.own if Image(self.name, id) not in self.listed]
        self.witness = self.witness or ranked[:1]

    def warn_of_unnamed(self) -> None:
        """A failed replication leaves images that no meta.json names (coreos/coreos-assembler#3634)."""
        for id, seen in self.own.items():
            build = BUILD_ID.search(seen.name)
            if build and build[0] in self.release.read and Image(self.name, id) not in self.listed:
                words = "no meta.json names it, nor the record, without which (a new --filename) all of them are read"
                log.warning("%s %s (%s) stays: %s", self.name, id, build[0], words)

    def prune_batch(self, jobs: Sequence[ImageJob]) -> None:
        """Look at up to 99 images, and do with each what has to be done."""
        due = self.find_due(jobs)
        for job in self.tag(due[State.TO_TAG], "true"):
            job.settle(State.DONE, BOOTIMAGE)
        call_each(self.delete, self.mark(self.tag(due[State.TO_DELETE], "false")), REGION_THREADS)
        # Somebody may have pinned these since the look.
        self.find_due([job for job in due[State.TO_DELETE] if isinstance(job.error, DeniedError)])

    def find_due(self, jobs: Sequence[ImageJob]) -> dict[State, list[ImageJob]]:
        """Look at up to 99 images; settles those that need no change, and returns the others by what they need."""
        due: dict[State, list[ImageJob]] = {State.TO_TAG: [], State.TO_DELETE: []}
        if jobs:
            self.look(jobs)
        for job in jobs:
            state, reason = self.decide(job)
            if state in due and not self.args.dry_run:
                due[state].append(job)
            else:
                job.settle(state, reason)
        return due

    def look(self, jobs: Sequence[ImageJob]) -> None:
        """Look at up to 99 images and the witness. An answer without the witness is no answer."""
        asked_at, ids = read_clocks(), [job.image.id for job in jobs]
        seen = self.ecs.list_images(ImageId=",".join(dict.fromkeys([*ids, *self.witness])))
        # Without a witness, an image that the own listing showed is its own, unless its deletion was answered.
        own = [job.image.id for job in jobs if job.image.id in self.own and job.state is State.OPEN]
        check_listed(self.name, self.witness or own, [id for id in seen if seen[id].own], "DescribeImages")
        self.looked_at = asked_at
        for job in jobs:
            job.listed = job.image.id in seen
            job.seen = seen.get(job.image.id, job.seen)

    def is_fresh(self) -> bool:
        """Whether a change may rest on the last look."""
        return all(0 <= now - then <= LOOK_SECONDS for now, then in zip(read_clocks(), self.looked_at))

    def decide(self, job: ImageJob) -> tuple[State, str]:
        """The state that the last look at an image asks for, and why."""
        is_bootimage = job.image.id in self.release.bootimages
        if job.listed and job.seen:
            reason = reason_to_keep(job.image, job.seen, self.release)
            if reason == BOOTIMAGE and not job.seen.own:
                return State.KEPT, MISSING
            if reason == BOOTIMAGE and job.seen.tag != "true":
                return State.TO_TAG, reason
            return State.KEPT if reason else State.TO_DELETE, reason
        if not self.witness:
            return State.KEPT, MISSING if is_bootimage else NOT_LISTED
        if job.asked:
            image_log.info("%s deleted, as a look shows: the answer was lost", job)
            return State.DELETED, ""
        return State.GONE, MISSING if is_bootimage else "no longer listed"

    # Step 6: tag, mark, make private, delete, and look again

    def tag(self, jobs: Sequence[ImageJob], value: str) -> list[ImageJob]:
        """Tag images bootimage=`value`; returns those that are tagged so."""
        needed = {job: [job.image.id] if job.seen and job.seen.tag != value else [] for job in jobs}
        return self.tag_all("image", needed, "bootimage", value)

    def mark(self, jobs: Sequence[ImageJob]) -> list[ImageJob]:
        """Mark the snapshots behind images, so that a later run finds them; returns those with nothing left to mark."""
        return self.tag_all("snapshot", {job: job.snapshots for job in jobs}, MARK, self.release.history.release)

    def tag_all(self, kind: str, needed: Mapping[ImageJob, Sequence[str]], key: str, value: str) -> list[ImageJob]:
        """Tag what each image needs, 50 at once while the look is fresh; returns those of which all is tagged.

        One that cannot be tagged fails the whole call: then each image is tried alone.
        """
        missing = ("InvalidSnapshotId.NotFound", "InvalidResourceId.NotFound") if kind == "snapshot" else ()

        def tag(ids: Iterable[str], done: Collection[str] = ()) -> None:
            untagged = [id for id in ids if id not in self.tagged]
            if untagged and self.is_fresh():
                tags = [{"Key": key, "Value": value}]
                answer = self.ecs.call(TagResourcesRequest, done, ResourceType=kind, ResourceIds=untagged, Tags=tags)
                words = f"tagged {key}={value}" if answer else "does not exist any more, and needs no mark"
                for id in untagged if kind == "image" or not answer else ():  # The deletion's line names marked ones.
                    image_log.info("%s %s %s", self.name, id, words)
                self.tagged.update(untagged)

        def tag_alone(job: ImageJob) -> None:
            for id in needed[job]:
                tag([id], missing)

        try:
            for batch in batches(list(dict.fromkeys(itertools.chain(*needed.values()))), TAG_LIMIT):
                tag(batch)
        except PassingError:
            raise
        except OutsideError:
            call_each(tag_alone, [job for job in needed if set(batch).intersection(needed[job])], REGION_THREADS)
        return [job for job in needed if self.tagged.issuperset(needed[job])]

    def delete(self, job: ImageJob) -> None:
        """Make an image private if it is public, and delete it, unless the look has become too old for that."""
        if job.seen and job.seen.public and self.is_fresh():
            done = ("Image.NotPublic", "InvalidImageId.NotFound")
            self.ecs.call(ModifyImageSharePermissionRequest, done, ImageId=job.image.id, IsPublic="false")
            image_log.info("%s made private", job)
        # Logged first: once the image is gone, nothing in the cloud says which snapshots were its own.
        image_log.info("deleting %s, which leaves its snapshots: %s", job, ", ".join(job.snapshots) or "none")
        if self.is_fresh():  # A reader of the output may have blocked it for as long as it likes.
            job.asked = True
            self.ecs.call(DeleteImageRequest, ["InvalidImageId.NotFound"], ImageId=job.image.id)  # never by Force
            job.settle(State.ACCEPTED)
            image_log.info("%s deleted", job)

    def confirm_deletions(self) -> None:
        """Look until no deleted image is listed any more, or none has left the listing for five minutes.

        A deletion that cannot be confirmed has failed: the next run looks at the image again.
        """
        jobs, since = [job for job in self.images if job.state is State.ACCEPTED], time.monotonic()
        patience = Patience()  # of its own: that some could not be deleted says nothing of the others
        while jobs and time.monotonic() - since < 300:
            for batch in batches(jobs, LOOK_LIMIT):
                insist(partial(self.look, batch), patience)
            for job in [job for job in jobs if not job.listed]:
                job.settle(State.DELETED)
                jobs.remove(job)
                since = time.monotonic()
            time.sleep(10 if jobs else 0)
        for job in jobs:
            job.settle(State.FAILED, error=LostError("still listed five minutes after the deletion"))

    # The snapshots behind deleted images

    def sweep(self) -> None:
        """Delete the snapshots that any run has marked for this release, and those behind what this run deleted."""
        check_listed(self.name, self.witness, self.own, "DescribeImages")
        self.sweep_began = time.monotonic()
        self.witness_snapshots = [id for image in self.witness for id in self.own[image].snapshots[:1]]
        listed = list_all(self.ecs.list_snapshots, self.patience)
        check_listed(self.name, self.witness_snapshots, listed, "DescribeSnapshots")
        deleted = [job for job in self.images if job.state in (State.TO_DELETE, State.DELETED)]
        behind = {id: job.image for job in deleted for id in job.snapshots}
        gone = {job.image.id for job in self.images if job.state in (State.TO_DELETE, State.DELETED, State.GONE)}
        seen = self.own | {job.image.id: job.seen for job in self.images if job.seen}
        self.in_use = {id for image in seen.keys() - gone for id in seen[image].snapshots}
        marked = [id for id, tags in listed.items() if tags and tags.get(MARK) == self.release.history.release]
        self.snapshots = [SnapshotJob(self.name, id, behind.get(id)) for id in dict.fromkeys([*behind, *marked])]
        random.shuffle(self.snapshots)
        progress.jobs += self.snapshots
        work_off(self.snapshots, self.sweep_batch, LOOK_LIMIT, self.patience)

    def sweep_batch(self, jobs: list[SnapshotJob]) -> None:
        """Look at up to 99 snapshots, and delete what nobody pinned and is marked, or behind an image of this run."""
        asked_at, ids = read_clocks(), [*(job.id for job in jobs), *self.witness_snapshots]
        seen = self.ecs.list_snapshots(SnapshotIds=json.dumps(ids))
        check_listed(self.name, self.witness_snapshots, seen, "DescribeSnapshots")
        self.looked_at = asked_at
        for job in jobs:
            state, reason = self.decide_snapshot(job, seen)
            if self.args.dry_run or state is not State.TO_DELETE:
                job.settle(state, reason)
        call_each(self.delete_snapshot, [job for job in jobs if job.state is State.OPEN], REGION_THREADS)
        is_late = time.monotonic() - self.sweep_began >= 120
        for job in jobs:  # What the API refuses for good stays, and what is not free two minutes after its image went.
            if job.state is State.FAILED or (is_late and type(job.error) is PassingError):
                job.settle(State.KEPT, str(job.error))

    def decide_snapshot(self, job: SnapshotJob, seen: Mapping[str, dict[str, str] | None]) -> tuple[State, str]:
        """The state that a look at a snapshot, which shows such tags, asks for, and why."""
        if job.id not in seen and self.witness_snapshots:
            return State.DELETED if job.asked else State.GONE, ""  # The answer to its deletion was lost.
        if job.id not in seen:
            return State.KEPT, NOT_LISTED
        tags = seen[job.id]
        if tags is None:
            return State.KEPT, "shown without tags"
        if pin_of(tags):
            return State.KEPT, pin_of(tags)
        if "acs:ecs:sharedfrom" in tags:
            return State.KEPT, "shared by another account"
        if job.id in self.in_use:
            return State.KEPT, "an image that stays is made from it"
        is_marked = job.behind or tags.get(MARK) == self.release.history.release
        return (State.TO_DELETE, "") if is_marked else (State.KEPT, "no longer marked")

    def delete_snapshot(self, job: SnapshotJob) -> None:
        """Delete a snapshot, unless the look has become too old for that."""
        of = f"behind {job.behind.id}, {job.behind.build}" if job.behind else "marked by an earlier run"
        image_log.info("deleting %s (%s)", job, of)
        if self.is_fresh():
            job.asked = True
            self.ecs.call(DeleteSnapshotRequest, ["InvalidSnapshotId.NotFound"], SnapshotId=job.id)  # never by Force
            job.settle(State.DELETED)
            image_log.info("%s deleted", job)


def log_outcomes(images: Iterable[Job], snapshots: Iterable[Job]) -> None:
    """Log what was not logged when it happened: what stays and why, what a dry run would change."""
    for level, jobs in ((logging.WARNING, images), (logging.INFO, snapshots)):
        for job in sorted(jobs, key=str):
            if job.state is State.TO_DELETE:
                is_public = isinstance(job, ImageJob) and job.seen and job.seen.public
                log.info("would delete %s%s", job, " after making it private" if is_public else "")
            elif job.state is State.TO_TAG:
                log.info("would tag bootimage=true %s", job)
            elif job.reason == MISSING:
                log.warning("%s is a bootimage, but it is not in the account", job)
            elif job.state is State.GONE and job.reason != IN_CLOSED_REGION:
                image_log.info("%s is already gone: %s", job, job.reason)
            elif job.state is State.KEPT and job.reason != BOOTIMAGE:
                image_log.log(level, "%s is kept: %s", job, job.reason)


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def without_url(reason: object) -> str:
    return re.sub(r"https://\S+: ", "", str(reason))


def summary_of(reason: object) -> str:
    """The reason without what differs from one image or build to the next, such as the URL or the RequestId."""
    return without_url(reason).partition(" (")[0]


def log_failures(where: str, kind: str, errors: Mapping[Item, OutsideError | None]) -> list[str]:
    """Log which images, snapshots or builds failed; returns a line for each reason, to be repeated at the end."""
    by_reason: dict[str, list[Item]] = defaultdict(list)
    for item, error in errors.items():
        if error:
            image_log.info("%s is left: %s", item, error)
            by_reason[summary_of(error)].append(item)
    lines = []
    for failed in by_reason.values():
        named = f" ({', '.join(str(getattr(item, 'id', item)) for item in failed)})" if len(failed) <= 10 else ""
        said = max((without_url(errors[item]) for item in failed), key=len)  # by one for which a call was made
        lines.append(f"{where}: {plural(len(failed), kind)}{named}: {said}")
        log.warning("%s", lines[-1])
    return lines


# Step 7: the record


def load_record(path: str, content: bytes | None = None) -> Record:
    """Load the record of earlier runs, by default from its file; it is empty if there is none, or nothing in it."""
    try:
        with parsing(f"the record {path}", Refusal):
            return parse_record(json.loads((read_file(path) if content is None else content) or b"{}"))
    except (OSError, Refusal) as error:
        raise Refusal(f"{error}; repair it, or give another --filename") from None


def read_file(path: str) -> bytes:
    """The content of the record; empty if there is none. A device or a pipe could be read without end."""
    if not os.path.exists(path):
        return b""
    if not os.path.isfile(path):
        raise Refusal(f"the record {path} is not a file, but a directory, a device or a pipe")
    with open(path, "rb") as file:
        return file.read()


def parse_record(record: Any) -> Record:
    """The record; raises TypeError, KeyError or ValueError unless it is one."""
    for build, entries in record.items():
        for entry in as_list(entries):
            parse_image(build, entry["region"], entry["image"])
            if not isinstance(entry["deleted"], bool):
                raise ValueError(f"an entry of {excerpt(build)} does not say whether it is deleted")
    return dict(record)


def update_record(record: Record, release: Release, images: Iterable[ImageJob]) -> Record:
    """The record with this run's results; an entry of an image that this run has not seen stays as it is."""
    gone = {job.image: not job.listed for job in images if job.listed or job.state in (State.DELETED, State.GONE)}
    updated: Record = {}
    for build, entries in record.items():
        images_of = [Image(entry["region"], entry["image"]) for entry in entries]
        updated[build] = [{**e, "deleted": gone.get(image, e["deleted"])} for image, e in zip(images_of, entries)]
    # If a directory is missing, a build can lie there, too.
    for build, uploads in release.uploads.items() if not release.missing else ():
        if build not in record and not reason_to_skip(build, release.history):
            updated[build] = [{"region": i.region, "image": i.id, "deleted": gone.get(i, False)} for i in uploads]
    return updated


def check_replaceable(path: str) -> None:
    """Refuse now if save_record would fail, by replacing the record with a copy of itself."""
    try:
        update_file(path, lambda content: content)
    except OSError as error:
        remedy = "give another --filename, and in a container mount the folder of the record, not the file"
        raise Refusal(f"the record {path} cannot be replaced: {error.strerror}; {remedy}") from None


def save_record(path: str, update: Callable[[Record], Record]) -> list[str]:
    """Update the record as it is now: another run may have written to it. Returns what goes wrong."""
    try:
        update_file(path, lambda content: f"{json.dumps(update(load_record(path, content)), indent=2)}\n".encode())
        return []
    except (OSError, RecursionError, Refusal) as error:
        said = f"the record {path} could not be written, and is unchanged: {error}"
        return [f"{said}; the next run will find the deleted images gone"]


def update_file(path: str, new_content: Callable[[bytes], bytes]) -> None:
    """Replace a file in one step: whoever reads it, at any moment, sees the old content or the new one.

    No empty file is made. Not every folder can be locked: start again if another run has replaced the file meanwhile.
    """
    path = os.path.realpath(path)
    temporary = f"{path}.{random.getrandbits(64):x}.tmp"
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        lock_folder(folder)
        for _ in range(5):
            before = read_file(path)
            content = new_content(before)
            with open(temporary, "wb") as file:
                file.write(content or b"{}")  # A full disk is to be noticed at the start.
            with contextlib.suppress(OSError):
                shutil.copymode(path, temporary)
            if read_file(path) == before:
                if content:
                    os.replace(temporary, path)
                return
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        os.close(folder)
    raise Refusal(f"other runs replace the record {path} all the time; run again later")


def lock_folder(folder: int) -> None:
    """Keep other runs from replacing files in a folder, if it can be locked within ten seconds.

    Another run may write a large record. Not every file system can lock a folder, and `flock FOLDER main.py` has locked
    it already.
    """
    with contextlib.suppress(OSError):
        for _ in range(100):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.1)


# The run as a whole


def run(args: argparse.Namespace) -> int:
    """Do the seven steps; returns the exit status: 0, or 1 if some images were not pruned."""
    environment = read_environment()
    record = load_record(args.filename)
    if not record:
        log.info("no builds on record at %s: every build is read", args.filename)
    if not args.dry_run:
        check_replaceable(args.filename)
    web = Web(environment)
    history = read_history(web, args.release)
    regions = check_account(environment, history, args)
    release, problems = read_store(web, history, record)
    problems += prune_regions(environment, regions, release, args)
    images = [job for region in regions.values() for job in region.images]
    snapshots = [job for region in regions.values() for job in region.snapshots]
    log_outcomes(images, snapshots)
    if not args.dry_run:
        problems += save_record(args.filename, lambda record: update_record(record, release, images))
    for line in summarize(regions.values(), release, record, args):
        log.info("%s", line)
    for problem in problems:
        log.error("%s", problem)
    if args.dry_run:
        is_due = any(job.state in (State.TO_TAG, State.TO_DELETE) for job in [*images, *snapshots])
        remedy = "run the same command without --dry-run to do this" if is_due else "there is nothing to do"
        log.info("nothing was changed: %s", remedy)
    return 1 if problems else 0


def check_account(environment: Environment, history: History, args: argparse.Namespace) -> dict[str, Region]:
    """Look at the bootimages of each region; refuse if none of them is the account's own, and say what was answered."""
    named = {image.region for image in history.images.values()} - CLOSED_REGIONS.keys()
    regions = {name: Region(name, environment, args) for name in sorted(named)}
    if not regions:
        raise Refusal("all regions in which rhcos.json names images are closed: nothing of this release is left")
    progress.what, progress.jobs = "regions checked", [region.first_look for region in regions.values()]
    with ThreadPoolExecutor(len(regions)) as pool:
        list(pool.map(lambda region: region.look_first(history), regions.values()))
    if not any(region.witness for region in regions.values()):
        # What answered says more than what did not.
        first = min(regions.values(), key=lambda region: isinstance(region.first_look.error, PassingError))
        hint = ": check ALIYUN_ACCESS_KEY_ID" if type(first.first_look.error) is OutsideError else ""
        raise Refusal(f"no region can be used{hint} ({first.name}: {first.first_look.error})")
    return regions


def prune_regions(
    environment: Environment, regions: dict[str, Region], release: Release, args: argparse.Namespace
) -> list[str]:
    """Prune all regions in which any list names images, side by side; adds those that no bootimage is in.

    Returns a line for each problem.
    """
    for name in sorted({image.region for image in release.listed} - regions.keys()):
        regions[name] = Region(name, environment, args)
    progress.what, progress.jobs = "images and snapshots done" if args.delete_snapshots else "images done", []
    with ThreadPoolExecutor(len(regions)) as pool:
        lines = pool.map(lambda region: region.prune(release), regions.values())
        return list(itertools.chain.from_iterable(lines))


def summarize(regions: Collection[Region], release: Release, record: Record, args: argparse.Namespace) -> Iterator[str]:
    """What the run did, or would do, line by line: bootimages, builds, a table of the regions, totals that add up."""
    images = [job for region in regions for job in region.images]
    bootimages = [job for job in images if job.image.id in release.bootimages]
    kept = [job for job in bootimages if job.reason == BOOTIMAGE or (job.seen and job.state is State.FAILED)]
    regions_of = Counter(build for build, _ in {(job.image.build, job.image.region) for job in kept})
    for build, number in sorted(regions_of.items()):
        yield f"bootimage {build}: {plural(number, 'region')}"
    named = f"bootimages: {plural(len({job.image.build for job in bootimages}), 'build')},"
    yield balance(named, "image", ["kept" if job in kept else result_of(job) for job in bootimages])
    kinds = []
    for build in release.builds:
        found = "on record" if build in record else "read" if build in release.read else "not read"
        kinds.append(reason_to_skip(build, release.history) or found)
    yield balance("listed by the store:", "build", kinds)
    closed = Counter(job.image.region for job in images if job.reason == IN_CLOSED_REGION)
    for name, number in sorted(closed.items()):
        yield f"{name} is closed since {CLOSED_REGIONS[name]}, with {plural(number, 'image')}"
    others = [job for job in images if job.image.id not in release.bootimages]
    success = State.TO_DELETE if args.dry_run else State.DELETED
    yield from format_table(others, [success, State.GONE, State.KEPT, State.FAILED])
    gone = release.listed.keys() - {job.image for job in images}
    results = [result_of(job) for job in others] + ["gone by the record of earlier runs"] * len(gone)
    yield balance("other images:", "image", results)
    if args.delete_snapshots:
        snapshots = [result_of(job) for region in regions for job in region.snapshots]
        yield balance("snapshots found:", "snapshot", snapshots)
    left = {id for job in others if job.state is success for id in job.snapshots}
    if left and not args.delete_snapshots:
        would = "that a run would leave" if args.dry_run else "that this run marked and left"
        yield f"snapshots {would}, still billed (--delete-snapshots deletes them, and earlier ones): {len(left):,}"


def result_of(job: Job) -> str:
    """What the totals call the result of a job."""
    return summary_of(job.reason) or job.state.value


def balance(title: str, noun: str, terms: Iterable[str]) -> str:
    """A line whose figures add up, the largest first."""
    counts = sorted(Counter(terms).items(), key=lambda item: (-item[1], item[0]))
    total = f"{title} {plural(sum(count for _, count in counts), noun)}"
    return f"{total} = {' + '.join(f'{count:,} {term}' for term, count in counts)}" if counts else total


def format_table(images: Iterable[ImageJob], columns: Sequence[State]) -> Iterator[str]:
    """A row for each region, and the total."""
    counts: dict[str, Counter[State]] = defaultdict(Counter)
    for job in images:  # One that is named for a bootimage is tagged, and kept.
        counts[job.image.region][State.KEPT if job.reason == BOOTIMAGE else job.state] += 1
    total: Counter[State] = sum(counts.values(), Counter())
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
        end_process(1, f"{reason}: free space, or give another --log-to-file{what_was_deleted()}", others)


CLEAR_LINE = "\r\033[K"


def is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def start_log(path: str, debug: bool, release: str) -> None:
    """Log to the file, which several runs may share, and to stdout: every line, but on a terminal what matters."""
    log_file = LogFile(path, encoding="utf-8", errors="backslashreplace")
    log_file.setFormatter(RedactingFormatter(f"%(asctime)s {release} %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    # The file comes first: it has the line even if nobody reads stdout.
    log.handlers = [log_file]
    if sys.stdout:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # It may be anything.
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            os.set_blocking(sys.stdout.fileno(), True)  # Where a parent wants no waiting, lines would be lost.
        to_stdout = logging.StreamHandler(sys.stdout)
        # Each line takes the place of the status line, which comes again half a second later.
        to_stdout.setFormatter(RedactingFormatter(f"{CLEAR_LINE if is_terminal() else ''}%(levelname)-7s %(message)s"))
        if is_terminal() and not debug:
            to_stdout.addFilter(lambda record: record.name == log.name or record.levelno >= logging.WARNING)
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
    """Replace the status line of a terminal."""
    if is_terminal():  # Behind it an echoed ^C must fit, or it is wrapped and cannot be cleared.
        with contextlib.suppress(OSError):
            sys.stdout.write(CLEAR_LINE + status[: shutil.get_terminal_size().columns - 3])
            sys.stdout.flush()


def show_progress(work: Future[int]) -> None:
    """Show the progress until the work is done."""
    logged = time.monotonic()
    while not wait([work], 0.5).done:
        show_status(str(progress))
        if time.monotonic() - logged >= 30:
            logged = time.monotonic()
            image_log.info("%s", progress)
    show_status("")


def end_process(status: int, message: str, log: logging.Logger = log) -> None:
    """End the process wherever it is: the record is safe at any moment, so there is nothing to wind up."""

    def log_last_lines() -> None:
        log.error("%s", message)  # in the log file first: a terminal may be stopped
        show_status("")
        log.info("ended with status %d after %s", status, progress.elapsed())

    ending.set()
    # In a thread, because a reader that stopped reading stdout would block the last line for as long as it likes.
    last_lines = threading.Thread(target=log_last_lines, daemon=True)
    last_lines.start()
    last_lines.join(1)  # The process ends even if its last line cannot be written.
    os._exit(status)


def end_at_once(signum: int, _: object) -> None:
    if not ending.is_set():
        how = f"interrupted by {signal.Signals(signum).name} ({progress}){what_was_deleted()}"
        end_process(128 + signum, f"{how}; run the same command again to continue")


def release_number(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*\.(0|[1-9][0-9]*)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a release: give it in the form 4.10")
    return text


def file_path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("a file name must not be empty")
    return os.path.abspath(text)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--dry-run", action="store_true", help="Just print what would happen")
    parser.add_argument("--debug", "-d", action="store_true", help="Enable debug logging")
    record = "Path to file where bootimage data can be recorded; will allow for faster execution if script is run"
    parser.add_argument("--filename", type=file_path, default="deleted_images.json", help=f"{record} multiple times")
    log_help = "Filename to record all log output to"
    parser.add_argument("--log-to-file", type=file_path, default="aliyun_pruner.log", help=log_help)
    parser.add_argument("--delete-snapshots", action="store_true", help="Delete snapshots of the deleted images, too")
    parser.add_argument("release", type=release_number, help="OCP release to operate on")
    args = parser.parse_args(argv)
    if os.path.realpath(args.filename) == os.path.realpath(args.log_to_file):
        parser.error("--filename and --log-to-file are the same file")
    return args


def run_and_log(args: argparse.Namespace) -> int:
    """Run, and turn every exception into a line of the log."""
    try:
        what = f"{'dry run' if args.dry_run else 'run'} of release {args.release}"
        options = " --delete-snapshots" if args.delete_snapshots else ""
        digest = hashlib.sha256(read_file(__file__)).hexdigest()[:12]
        log.info("%s%s; record: %s, log: %s, main.py: %s", what, options, args.filename, args.log_to_file, digest)
        return run(args)
    except Refusal as error:
        log.error("%s (nothing was changed)", error)
    except Exception as error:
        log.error("%s", as_expected(error))
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Work in threads, so that this one is free for signals, and holds no lock then; returns the exit status."""
    try:
        args = parse_args(argv)
        start_log(args.log_to_file, args.debug, args.release)
    except OSError as error:
        sys.exit(f"main.py: error: the log cannot be written: {error}; give another --log-to-file")
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, end_at_once)
    with ThreadPoolExecutor(2) as pool:
        work = pool.submit(run_and_log, args)
        pool.submit(show_progress, work)
        while wait([work], 0.5).not_done:
            pass  # If the kernel gives a signal to another thread, this one has to wake up for it.
    log.info("ended with status %d after %s", work.result(), progress.elapsed())
    return work.result()


if __name__ == "__main__":
    exit_status = main()
    # A reader that has gone must not change the exit status, and a call that hangs must not outlive the last line.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    os._exit(exit_status)
