#!/usr/bin/env python3
"""Delete the RHCOS images on Alibaba Cloud (Aliyun) that never became an OpenShift bootimage.

Every build of Red Hat CoreOS uploads an image to some 25 regions. The builds that a version of
`data/data/coreos/rhcos.json` on the release's branch of openshift/installer names are bootimages, and stay for
ever; the images of all others are tagged `bootimage=false`, made private and deleted.

The functions stand in the order in which a run calls them:

    find_bootimages   what must stay, and the directories in which the release's builds lie   (GitHub)
    find_builds       every build in the builds.json of these directories                     (RHCOS store)
    find_uploads      the images that a build uploaded, from its meta.json                    (RHCOS store)
    prune_region      tags, makes private and deletes the images of one region                (ECS)
    updated_record    what became of them, for the next run                                   (deleted_images.json)

`Web` alone speaks to GitHub and to the store, `Ecs` alone to Alibaba Cloud. Both repeat what may be repeated.
Whether an image may be deleted is decided in one place, `reason_to_keep`, on what the cloud says of it just before.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import os
import queue
import random
import re
import shutil
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import cache, partial
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import requests
from aliyunsdkcore.acs_exception.exceptions import ClientException, ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.http import protocol_type
from aliyunsdkecs.request.v20140526.DeleteImageRequest import DeleteImageRequest
from aliyunsdkecs.request.v20140526.DescribeImagesRequest import DescribeImagesRequest
from aliyunsdkecs.request.v20140526.ModifyImageSharePermissionRequest import ModifyImageSharePermissionRequest
from aliyunsdkecs.request.v20140526.TagResourcesRequest import TagResourcesRequest
from requests.adapters import HTTPAdapter
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

INSTALLER_API = "https://api.github.com/repos/openshift/installer"
INSTALLER_RAW = "https://raw.githubusercontent.com/openshift/installer"
STREAM_METADATA = "data/data/coreos/rhcos.json"
STORE = "https://rhcos.mirror.openshift.com/art/storage"

# The architectures of coreos-assembler that ECS has instances for.
ECS_ARCHITECTURES = ("x86_64", "aarch64")

# A bump of the bootimage lags its build: over 66 bumps of 4.10 to 4.18 by a day at the median, 16 days at the most.
YOUNG = timedelta(days=30)

WEB_WORKERS = 16
REGION_WORKERS = 4  # In 25 regions these keep a CPU busy with what the SDK does for each call, about a millisecond.

DESCRIBE_LIMIT = 100  # DescribeImages: the largest PageSize.
TAG_LIMIT = 50  # TagResources: the most ResourceIds.

CONNECT_TIMEOUT = 10  # seconds
WEB_TIMEOUT = 20  # seconds without a byte
ECS_TIMEOUT = 40  # seconds; the SDK's own table grants DescribeImages 38 and DeleteImage 36

PROGRESS_SECONDS = 10

RETRIES = 8
LONGEST_BACKOFF = 5.0  # seconds; eight retries take about 23 seconds
LONGEST_RETRY_AFTER = 60.0  # seconds
RETRY_SECONDS = 60  # A service that answers only by timeouts is given up sooner than after eight retries.
THROTTLED_MINUTES = 15  # A call that finds no room in so many minutes is given up.

# An image can stay in the listing for minutes after its deletion: seconds between looks, five minutes together.
CONFIRMATION_PAUSES = (1, 2, 4, 8, 15, 30, 60, 60, 60, 60)

# Without Status, DescribeImages leaves out every image that is not Available.
EVERY_STATUS = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"

CREDENTIALS_REFUSED = {
    "InvalidAccessKeyId",
    "InvalidAccessKeyId.NotFound",
    "InvalidAccessKeyId.Inactive",
    "InvalidAccessKeySecret",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "Forbidden.RAM",
    "NoPermission",
}

# Foreign data becomes part of URLs, of host names and of comma-separated lists: only what cannot break out is let in.
BUILD_ID = re.compile(r"[0-9]+\.[0-9]+\.([0-9]{12})-[0-9]+")
REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
IMAGE_ID = re.compile(r"[A-Za-z0-9_-]+")
DIRECTORY = re.compile(r"/art/storage/([A-Za-z0-9._/-]+)/([^/]+)/([^/]+)/[^/]+$")

BOOTIMAGE = "bootimage"  # the reason to keep an image that the history names

Record = dict[str, list[dict[str, Any]]]
Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger("rhcos-aliyun-pruner")


class Image(NamedTuple):
    """An image as its build lists it; `build` is what the list says, not what the cloud says."""

    build: str
    region: str
    id: str

    def __str__(self) -> str:
        return f"{self.region} {self.id} ({self.build})"


class Bootimages(NamedTuple):
    """What must stay: the builds that the history of rhcos.json names, and their images by ID."""

    builds: frozenset[str]
    images: dict[str, Image]


class CloudImage(NamedTuple):
    """What DescribeImages says of an image; `tag` is the value of its tag `bootimage`."""

    own: bool
    public: bool
    tag: str | None
    name: str
    snapshots: tuple[str, ...]


class Fate(Enum):
    DELETED = "deleted"
    GONE = "gone already"
    MISSING = "bootimage, but not in the account"
    KEPT = "kept"
    FAILED = "failed"


class Outcome(NamedTuple):
    """What became of an image, and why where that is not plain."""

    fate: Fate
    reason: str = ""


class Refusal(Exception):
    """The run ends before it changes anything; the message says why, and what to do."""


class OutsideError(Exception):
    """A service refused, did not answer, or answered in another form than expected."""


class MissingError(OutsideError):
    """The service answered that it does not have this."""


class EcsError(OutsideError):
    """An ECS call failed for good; `code` is the API's error code, or empty where no answer came."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Stopped(Exception):
    """Ctrl-C or SIGTERM came."""


# What is shared by all steps


class Stop(threading.Event):
    """Set by the first Ctrl-C or SIGTERM. All waiting ends then, and no call to the outside begins."""

    signum = 0

    def on_signal(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        self.set()


class Progress:
    """How far the current phase is; a line every ten seconds, and when the run is interrupted."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begin("starting", 0, "steps")

    def begin(self, phase: str, total: int, unit: str) -> None:
        self.phase, self.total, self.unit = phase, total, unit
        self.done = self.failures = 0
        self.started = self.reported = time.monotonic()

    def advance(self, count: int = 1) -> None:
        with self.lock:
            self.done += count

    def fail(self) -> None:
        with self.lock:
            self.failures += 1

    def report_if_due(self) -> None:
        if time.monotonic() - self.reported >= PROGRESS_SECONDS:
            self.reported = time.monotonic()
            log.info("%s%s", self, self.time_left())

    def time_left(self) -> str:
        if not self.done:
            return ", time left unknown"
        seconds = (time.monotonic() - self.started) / self.done * (self.total - self.done)
        return f", about {timedelta(seconds=round(seconds))} left"

    def __str__(self) -> str:
        return f"{self.phase} {self.done} of {self.total} {self.unit}, {self.failures} failed"


stopped = Stop()
progress = Progress()


def pause(seconds: float) -> None:
    """Sleep, but end at once with Stopped when the run is interrupted."""
    if stopped.wait(seconds):
        raise Stopped


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling from a quarter, capped, half of it by chance."""
    return float(min(LONGEST_BACKOFF, 0.25 * 2 ** (failures - 1)) * random.uniform(0.5, 1))


def in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Run function on each item in threads; yield each item with its finished future, in the order they finish.

    When the run is interrupted this raises Stopped at once: queued items are dropped, calls under way not waited for.
    """
    finished: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    pool = ThreadPoolExecutor(workers)
    futures = {pool.submit(function, item): item for item in items}
    for future in futures:
        future.add_done_callback(finished.put)
    try:
        while futures:
            future = next_finished(finished)
            yield futures.pop(future), future
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def next_finished(finished: queue.SimpleQueue[Future[Result]]) -> Future[Result]:
    while not stopped.is_set():
        progress.report_if_due()
        try:
            return finished.get(timeout=0.2)
        except queue.Empty:
            continue
    raise Stopped


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; ValueError for whatever is not JSON, nesting too deep to read included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def values_of(document: object, key: str) -> Iterator[Any]:
    """Every value of this key, at any depth of a JSON document."""
    pending = [document]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if key in node:
                yield node[key]
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def as_image(build: str, region: object, image: object) -> Image:
    """An Image out of foreign data; ValueError unless region and ID look like those of ECS."""
    if not (isinstance(region, str) and REGION.fullmatch(region)):
        raise ValueError(f"{region!a:.60} is not a region")
    if not (isinstance(image, str) and IMAGE_ID.fullmatch(image)):
        raise ValueError(f"{image!a:.60} is not an image ID")
    return Image(build, region, image)


@cache  # A build has some 25 images, and each is asked for.
def built_at(build: str) -> datetime | None:
    """The time in the third field of a build ID (410.84.202207061638-0, UTC), or None where it tells none."""
    match = BUILD_ID.fullmatch(build)
    try:
        return datetime.strptime(match[1], "%Y%m%d%H%M").replace(tzinfo=timezone.utc) if match else None
    except ValueError:
        return None


def is_young(build: str) -> bool:
    built = built_at(build)
    return built is not None and datetime.now(timezone.utc) - built < YOUNG


def is_of_release(build: str, release: str) -> bool:
    """Whether the ID is of this release: those of 4.10 begin with `410.`."""
    return build.startswith(release.replace(".", "") + ".")


class CappedRetry(Retry):
    """urllib3's Retry, which would otherwise sleep for as long as a Retry-After header says."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        seconds = super().get_retry_after(response)
        return None if seconds is None else min(seconds, LONGEST_RETRY_AFTER)


class Web:
    """GitHub and the RHCOS store over kept-alive connections.

    GITHUB_TOKEN is sent to api.github.com alone. That host is not asked again after a 429: it counts the budget by the
    hour (https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api).
    """

    def __init__(self, github_token: str) -> None:
        self.api = self.session(retried=(500, 502, 503, 504), respect_retry_after_header=False)
        self.api.headers["Accept"] = "application/vnd.github+json"
        if github_token:
            self.api.headers["Authorization"] = f"Bearer {github_token}"
        self.files = self.session(retried=(429, 500, 502, 503, 504))

    @staticmethod
    def session(retried: Collection[int], **options: Any) -> requests.Session:
        retry = CappedRetry(
            total=RETRIES,
            backoff_factor=0.25,
            backoff_max=LONGEST_BACKOFF,
            backoff_jitter=0.25,
            status_forcelist=retried,
            raise_on_status=False,
            **options,
        )
        session = requests.Session()
        del session.adapters["http://"]
        session.mount("https://", HTTPAdapter(pool_maxsize=WEB_WORKERS, max_retries=retry))
        return session

    def get(self, url: str) -> requests.Response:
        """GET; an answer of any status. OutsideError where none came."""
        session = self.api if url.startswith("https://api.github.com/") else self.files
        failures = 0
        while True:
            if stopped.is_set():
                raise Stopped
            started = time.monotonic()
            try:
                response = session.get(url, timeout=(CONNECT_TIMEOUT, WEB_TIMEOUT))
            except requests.exceptions.ChunkedEncodingError as error:
                # The connection was lost within the body, which urllib3 does not retry.
                failures += 1
                if failures > RETRIES:
                    raise OutsideError(f"{url}: {innermost(error)}") from None
                pause(backoff(failures))
            except requests.RequestException as error:
                raise OutsideError(f"{url}: {innermost(error)}") from None
            else:
                log.debug("GET %s: %s in %.3f s", url, response.status_code, time.monotonic() - started)
                return response

    def get_json(self, url: str, missing: Collection[int]) -> Any:
        """GET a JSON document; MissingError for the statuses by which this host says that it does not have it."""
        response = self.get(url)
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
            return f"{type(error).__name__}: {error}"
        error = inner


# Steps 1 and 2: the history of rhcos.json


def find_bootimages(web: Web, release: str) -> tuple[Bootimages, list[str]]:
    """What the versions of rhcos.json on the release's branch name, and the directories where the release's builds lie.

    A build counts as named wherever its ID stands, for whichever platform or architecture.
    """
    progress.begin("listing", 1, "history")
    commits = next_result(in_parallel(partial(list_commits, web), [release], workers=1))
    documents = fetch_versions(web, commits)
    builds: set[str] = set()
    images: dict[str, Image] = {}
    directories = {f"releases/rhcos-{release}": None}
    for commit, document in documents.items():
        try:
            images |= {image.id: image for image in bootimages_in(document)}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refusal(
                f"rhcos.json of commit {commit} is not stream metadata as this program knows it ({error!r}); "
                "what must be kept is unknown, so nothing was changed"
            ) from None
        builds |= {build for build in values_of(document, "release") if isinstance(build, str)}
        directories |= dict.fromkeys(directories_in(document, release))
    if not images:
        raise Refusal(
            f"no Aliyun bootimage in any version of rhcos.json on release-{release}; "
            "what must be kept is unknown, so nothing was changed: check the release"
        )
    log.info("%d versions of rhcos.json on release-%s name %d builds and %d Aliyun images",
             len(documents), release, len(builds), len(images))  # fmt: skip
    return Bootimages(frozenset(builds), images), list(directories)


def next_result(results: Iterator[tuple[Item, Future[Result]]]) -> Result:
    return next(results)[1].result()


def list_commits(web: Web, release: str) -> list[str]:
    """SHAs of the commits on the release's branch that touched rhcos.json, newest first.

    https://docs.github.com/rest/commits/commits#list-commits
    """
    url = f"{INSTALLER_API}/commits?sha=release-{release}&path={STREAM_METADATA}&per_page=100"
    commits: list[str] = []
    while url:
        response = web.get(url)
        refuse_github_errors(response, release)
        try:
            commits += [commit["sha"] for commit in parse_json(response.content)]
        except (KeyError, TypeError, ValueError):
            raise Refusal("GitHub's list of commits could not be read; try again later") from None
        url = response.links.get("next", {}).get("url", "")
    return commits


def refuse_github_errors(response: requests.Response, release: str) -> None:
    if response.status_code == 200:
        return
    if response.status_code == 401:
        raise Refusal("GitHub refused GITHUB_TOKEN: set a valid token, or unset it")
    if response.status_code == 404:
        raise Refusal(f"openshift/installer has no branch release-{release}: check the release")
    if response.status_code in (403, 429) and response.headers.get("X-RateLimit-Remaining") == "0":
        raise Refusal(
            f"GitHub's budget of API calls is spent; it returns {reset_time(response)}. "
            "Run again then, or set GITHUB_TOKEN for a larger one"
        )
    raise Refusal(f"GitHub answered the list of commits with HTTP status {response.status_code}: try again later")


def reset_time(response: requests.Response) -> str:
    try:
        reset = datetime.fromtimestamp(int(response.headers["X-RateLimit-Reset"]), timezone.utc)
    except (KeyError, ValueError, OverflowError, OSError):
        return "within the hour"
    return f"at {reset:%Y-%m-%d %H:%M:%S} UTC"


def fetch_versions(web: Web, commits: Sequence[str]) -> dict[str, Any]:
    """rhcos.json of each commit. A commit that moved or deleted the file has none: GitHub answers 404."""
    documents = {}
    urls = {f"{INSTALLER_RAW}/{commit}/{STREAM_METADATA}": commit for commit in commits}
    progress.begin("reading", len(urls), "versions of rhcos.json")
    for url, future in in_parallel(lambda url: web.get_json(url, missing=[404]), urls, WEB_WORKERS):
        progress.advance()
        try:
            documents[urls[url]] = future.result()
        except MissingError:
            log.info("commit %s moved or deleted rhcos.json", urls[url])
        except OutsideError as error:
            raise Refusal(
                f"a version of rhcos.json could not be read: {error}; "
                "what must be kept is unknown, so nothing was changed: try again later"
            ) from None
    return documents


def bootimages_in(document: Any) -> Iterator[Image]:
    """The Aliyun images of one version of CoreOS stream metadata.

    `architectures.<arch>.images.aliyun.regions.<region>` is {"release": build, "image": ID}; most architectures have no
    Aliyun images, some no images at all.
    """
    for architecture in document["architectures"].values():
        for region, entry in architecture.get("images", {}).get("aliyun", {}).get("regions", {}).items():
            if not isinstance(entry["release"], str):
                raise TypeError(f"release {entry['release']!a:.60} is not a string")
            yield as_image(entry["release"], region, entry["image"])


def directories_in(document: object, release: str) -> Iterator[str]:
    """Directories of the store in which builds of this release lie, by the locations of their artifacts.

    A branch also names builds of the release before it, from before it was cut. Their directories are left out: what
    must stay in them is written in another branch. The host is ignored: history names one that is no more, with the
    same paths.
    """
    for location in values_of(document, "location"):
        match = DIRECTORY.search(location) if isinstance(location, str) else None
        if match and is_of_release(match[2], release) and match[3] in ECS_ARCHITECTURES:
            yield match[1]


# Step 3: every build


def find_builds(web: Web, directories: Sequence[str]) -> dict[str, list[str]]:
    """Every build of these directories: its ID, and the URLs of its meta.json, one an architecture that ECS has."""
    builds: dict[str, list[str]] = {}
    listings = {}

    def fetch(directory: str) -> Any:
        return web.get_json(f"{STORE}/{directory}/builds.json", missing=[403, 404])

    progress.begin("reading", len(directories), "builds.json")
    for directory, future in in_parallel(fetch, directories, WEB_WORKERS):
        progress.advance()
        try:
            listings[directory] = future.result()
        except MissingError:
            log.info("the store has no builds.json in %s", directory)
        except OutsideError as error:
            raise Refusal(f"the builds could not be listed: {error}; nothing was changed: try again later") from None
    if not listings:
        raise Refusal("the store has no builds.json for this release; nothing was changed: check the release")
    for directory, listing in listings.items():
        try:
            for build, architectures in builds_in(listing):
                builds.setdefault(build, []).extend(
                    f"{STORE}/{directory}/{build}/{architecture}/meta.json"
                    for architecture in ECS_ARCHITECTURES
                    if architecture in architectures
                )
        except (KeyError, TypeError):
            raise Refusal(
                f"{STORE}/{directory}/builds.json has not the form of a list of builds; nothing was changed"
            ) from None
    return builds


def builds_in(listing: Any) -> Iterator[tuple[str, list[str]]]:
    """ID and architectures of each build in a builds.json: `{"builds": [{"id": ..., "arches": ["x86_64"]}]}`."""
    for build in listing["builds"]:
        if not isinstance(build["id"], str) or not isinstance(build["arches"], list):
            raise TypeError(f"{build!a:.60} is not a build")
        yield build["id"], build["arches"]


def dated_builds(builds: dict[str, list[str]], release: str) -> dict[str, list[str]]:
    """The builds whose ID is one of this release and tells its age; the others are kept, and named in the log."""
    dated = {}
    for build, urls in builds.items():
        if built_at(build) is None:
            log.warning("build %a: its ID does not tell its age, so its images are kept", build[:60])
        elif not is_of_release(build, release):
            log.warning("build %s: its ID is not of release %s, so its images are kept", build, release)
        else:
            dated[build] = urls
    return dated


# Step 4: the images of each build


def find_uploads(web: Web, builds: dict[str, list[str]]) -> tuple[dict[str, list[Image]], list[str]]:
    """The images that each build uploaded, and the builds one of whose meta.json could not be read."""
    uploads: dict[str, list[Image]] = {}
    unread = []
    progress.begin("reading the images of", len(builds), "builds")
    for build, future in in_parallel(lambda build: fetch_uploads(web, build, builds[build]), builds, WEB_WORKERS):
        try:
            uploads[build] = future.result()
        except OutsideError as error:
            unread.append(build)
            progress.fail()
            log.error("build %s is passed over: %s", build, error)
        progress.advance()
    return {build: uploads[build] for build in builds if build in uploads}, unread


def fetch_uploads(web: Web, build: str, urls: Iterable[str]) -> list[Image]:
    return [image for url in urls for image in uploads_in(web.get_json(url, missing=[]), build, url)]


def uploads_in(meta: Any, build: str, url: str) -> list[Image]:
    """The images of a coreos-assembler meta.json: `"aliyun": [{"name": region, "id": ID}]`, no key where none were."""
    try:
        return [as_image(build, image["name"], image["id"]) for image in dict(meta).get("aliyun", [])]
    except (KeyError, TypeError, ValueError) as error:
        raise OutsideError(f"{url}: not a meta.json as this program knows it ({error!r})") from None


# Steps 5 and 6: tag, make private, delete


class Ecs:
    """The ECS API (2014-05-26) of one region, for several threads.

    Every call is repeated after a lost connection, a 5xx or a throttling, so each must be safe to repeat. A region that
    does not answer is given up: from then on each call fails at once.
    """

    def __init__(self, region: str, key_id: str, secret: str, dry_run: bool) -> None:
        self.region = region
        self.dry_run = dry_run
        self.client = AcsClient(
            key_id,
            secret,
            region,
            auto_retry=False,
            connect_timeout=CONNECT_TIMEOUT,
            timeout=ECS_TIMEOUT,
            pool_size=REGION_WORKERS + 1,
            verify=os.environ.get("ALIBABA_CLOUD_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE"),
        )
        # Else the SDK's session looks for a ~/.netrc at each call. Proxy and CA bundle reach it without.
        self.client.session.trust_env = False
        self.throttled_until: dict[str, float] = {}
        self.given_up = ""

    def describe(self, ids: Collection[str]) -> dict[str, CloudImage]:
        """At most 100 images by ID; one that the cloud does not list is absent.

        No owner is asked for: an image of somebody else's has to be told from one that is gone.
        """
        answer = self.call(DescribeImagesRequest, ImageId=",".join(ids), PageSize=DESCRIBE_LIMIT, Status=EVERY_STATUS)
        try:
            images = {image["ImageId"]: cloud_image(image) for image in answer["Images"]["Image"]}
            total = answer["TotalCount"]
        except (KeyError, TypeError, AttributeError):
            raise EcsError("DescribeImages answered in an unknown form") from None
        if total != len(images):
            raise EcsError(f"DescribeImages listed {len(images)} images of {total}")
        return images

    def tag(self, ids: Sequence[str], value: str) -> None:
        """Tag at most 50 images `bootimage=value`. One unknown ID fails the whole call."""
        self.change(
            TagResourcesRequest,
            ResourceType="image",
            ResourceIds=ids,
            Tags=[{"Key": "bootimage", "Value": value}],
        )

    def make_private(self, id: str) -> None:
        """Unpublish a community image. The API refuses one that is not public; here that is success."""
        try:
            self.change(ModifyImageSharePermissionRequest, ImageId=id, IsPublic="false")
        except EcsError:
            # The answer to an attempt that was carried out may have been lost.
            image = self.describe([id]).get(id)
            if image is not None and image.public:
                raise

    def delete(self, id: str) -> None:
        """Delete an image that is private; one that is gone already is success. Never by Force."""
        try:
            self.change(DeleteImageRequest, ImageId=id)
        except EcsError as error:
            if error.code != "InvalidImageId.NotFound":
                raise

    def change(self, request_type: type[Any], **parameters: Any) -> None:
        """An operation that changes the cloud: nothing in a dry run."""
        if not self.dry_run:
            self.call(request_type, **parameters)

    def call(self, request_type: type[Any], **parameters: Any) -> Any:
        """One operation, until it is carried out or refused for good; its answer. EcsError otherwise."""
        operation = request_type.__name__.removesuffix("Request")
        failures = throttled = 0
        first_failure = 0.0
        while True:
            self.wait_for_turn(operation)
            started = time.time()
            try:
                return self.attempt(operation, request_type, parameters)
            except ThrottledError as error:
                throttled += 1
                if throttled == THROTTLED_MINUTES:
                    raise EcsError(str(error), error.code) from None
                # An operation that is throttled stays so until the next minute begins; a second for clocks that differ.
                self.throttled_until[operation] = started // 60 * 60 + 61
            except LostError as error:
                failures += 1
                first_failure = first_failure or started
                if failures <= RETRIES and time.time() - first_failure <= RETRY_SECONDS:
                    pause(backoff(failures))
                    continue
                if error.code:
                    raise EcsError(str(error), error.code) from None
                self.given_up = f"the region does not answer: {error}"
                raise EcsError(self.given_up) from None

    def wait_for_turn(self, operation: str) -> None:
        if stopped.is_set():
            raise Stopped
        if self.given_up:
            raise EcsError(self.given_up)
        while (seconds := self.throttled_until.get(operation, 0) - time.time()) > 0:
            log.debug("%s %s is throttled for %.0f s", self.region, operation, seconds)
            pause(seconds)

    def attempt(self, operation: str, request_type: type[Any], parameters: dict[str, Any]) -> Any:
        request = request_type()
        request.set_protocol_type(protocol_type.HTTPS)
        # Every region has an endpoint of this name; the SDK would ask another service for those that it does not know.
        request.set_endpoint(f"ecs.{self.region}.aliyuncs.com")
        for name, value in parameters.items():
            getattr(request, f"set_{name}")(value)
        started = time.monotonic()
        outcome = "ok"
        try:
            return parse_json(self.client.do_action_with_exception(request))
        except Exception as error:
            # Answers that are not as the SDK expects end in exceptions of any type within it.
            failure = ecs_failure(operation, error)
            outcome = str(failure)
            raise failure from None
        finally:
            log.debug("%s %s: %s in %.3f s", self.region, operation, outcome, time.monotonic() - started)


class ThrottledError(EcsError):
    """The call was refused because there were too many in this minute."""


class LostError(EcsError):
    """No answer came, or, with a code, an error of the server: the call may or may not have been carried out."""


def ecs_failure(operation: str, error: Exception) -> EcsError:
    if isinstance(error, ServerException):
        code, status = str(error.get_error_code()), error.get_http_status()
        message = f"{operation}: {code} ({one_line(error.get_error_msg())})"
        if code.startswith("Throttling"):
            return ThrottledError(message, code)
        return LostError(message, code) if status >= 500 else EcsError(message, code)
    if isinstance(error, ClientException) and error.get_error_code() != "SDK.HttpError":
        return EcsError(f"{operation}: {one_line(error)}")
    return LostError(f"{operation}: {lost_how(error)}")


def lost_how(error: Exception) -> str:
    """What the SDK says of a lost connection, less the URL of thousands of characters that comes before the cause."""
    text = str(error.get_error_msg()) if isinstance(error, ClientException) else repr(error)
    cause = re.search(r"\(Caused by (.+)\)\s*$", text, re.DOTALL)
    return one_line(cause[1] if cause else text)


def one_line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else f"{line[:300]}..."


def cloud_image(image: Any) -> CloudImage:
    tags = {tag["TagKey"]: tag["TagValue"] for tag in image.get("Tags", {}).get("Tag", [])}
    disks = image.get("DiskDeviceMappings", {}).get("DiskDeviceMapping", [])
    return CloudImage(
        own=image.get("ImageOwnerAlias") == "self",
        public=bool(image.get("IsPublic")),
        tag=tags.get("bootimage"),
        name=str(image.get("ImageName", "")),
        snapshots=tuple(disk["SnapshotId"] for disk in disks if disk.get("SnapshotId")),
    )


def reason_to_keep(image: Image, seen: CloudImage, bootimages: Bootimages) -> str:
    """Why an image must stay, or an empty string: the one place that decides what may be deleted."""
    if image.id in bootimages.images or image.build in bootimages.builds:
        return BOOTIMAGE
    if not seen.own:
        return "not the account's own"
    if seen.tag == "true":
        return "pinned by its tag bootimage=true"
    if built_at(image.build) is None:
        return "its build ID does not tell its age"
    if is_young(image.build):
        return "young build"
    # Image names end in the build ID; one that tells of another build shows that a list or the record is wrong.
    named = BUILD_ID.search(seen.name)
    if named and named[0] != image.build:
        return f"its name tells of another build, {named[0]}"
    return ""


def check_account(regions: dict[str, Ecs], images: dict[str, list[Image]]) -> None:
    """Refuse unless the credentials are accepted and at least one of the images is the account's own."""
    own = 0
    errors = []
    progress.begin("looking at the images of", len(regions), "regions")
    for region, future in in_parallel(lambda region: count_own(regions[region], images[region]), regions, len(regions)):
        try:
            own += future.result()
        except EcsError as error:
            if error.code in CREDENTIALS_REFUSED:
                raise Refusal(
                    f"Alibaba Cloud refused the credentials in {region}: {error}; nothing was changed: check "
                    "ALIYUN_ACCESS_KEY_ID, ALIYUN_ACCESS_KEY_SECRET and the account's permissions"
                ) from None
            errors.append(f"{region}: {error}")
        progress.advance()
    if len(errors) == len(regions):
        raise Refusal(f"no region answered; nothing was changed: check network and proxy ({errors[0]})")
    if not own:
        raise Refusal(
            "none of the images is the account's own; nothing was changed: check that ALIYUN_ACCESS_KEY_ID belongs to "
            "the account that RHCOS images are uploaded to"
        )


def count_own(ecs: Ecs, images: Sequence[Image]) -> int:
    return sum(
        image.own
        for batch in batches(images, DESCRIBE_LIMIT)
        for image in ecs.describe([image.id for image in batch]).values()
    )


def prune_region(ecs: Ecs, images: Sequence[Image], bootimages: Bootimages) -> dict[Image, Outcome]:
    """Tag, make private and delete the images of one region; what became of each."""
    outcomes: dict[Image, Outcome] = {}
    with ThreadPoolExecutor(REGION_WORKERS) as pool:
        for batch in batches(images, DESCRIBE_LIMIT):
            outcomes |= prune_batch(ecs, batch, bootimages, pool)
    if not ecs.dry_run:
        outcomes |= unconfirmed(ecs, [image for image, outcome in outcomes.items() if outcome.fate is Fate.DELETED])
    return outcomes


def prune_batch(
    ecs: Ecs, batch: Sequence[Image], bootimages: Bootimages, pool: ThreadPoolExecutor
) -> dict[Image, Outcome]:
    """At most 100 images of a region. Each is looked at, tagged, and, if it may go, made private and deleted."""
    try:
        seen = ecs.describe([image.id for image in batch])
    except EcsError as error:
        progress.advance(len(batch))
        return {image: failed(image, error) for image in batch}
    present = [image for image in batch if image.id in seen]
    reasons = {image: reason_to_keep(image, seen[image.id], bootimages) for image in present}
    untagged = [
        image
        for image in present
        if reasons[image] == BOOTIMAGE and seen[image.id].own and seen[image.id].tag != "true"
    ]
    doomed = [image for image in present if not reasons[image]]
    failures = tag_images(ecs, untagged, "true")
    failures |= tag_images(ecs, [image for image in doomed if seen[image.id].tag != "false"], "false")
    tagged = [image for image in doomed if image not in failures]
    progress.advance(len(batch) - len(tagged))
    return (
        {image: gone(image, bootimages) for image in batch if image.id not in seen}
        | {image: kept(image, reason) for image, reason in reasons.items() if reason}
        | failures
        | dict(zip(tagged, pool.map(lambda image: remove(ecs, image, seen[image.id]), tagged), strict=True))
    )


def tag_images(ecs: Ecs, images: Sequence[Image], value: str) -> dict[Image, Outcome]:
    """Tag images `bootimage=value`; the outcomes of those for which that failed."""
    failures: dict[Image, Outcome] = {}
    for batch in batches(images, TAG_LIMIT):
        failures |= tag_batch(ecs, batch, value)
    return failures


def tag_batch(ecs: Ecs, batch: Sequence[Image], value: str) -> dict[Image, Outcome]:
    try:
        ecs.tag([image.id for image in batch], value)
    except EcsError as error:
        if len(batch) == 1 or not error.code.endswith("NotFound"):
            return {image: failed(image, error) for image in batch}
        # One unknown image fails the call for all.
        middle = len(batch) // 2
        return tag_batch(ecs, batch[:middle], value) | tag_batch(ecs, batch[middle:], value)
    for image in batch:
        note(ecs, image, f"tagged bootimage={value}")
    return {}


def remove(ecs: Ecs, image: Image, seen: CloudImage) -> Outcome:
    """Make an image private where it is public, and delete it."""
    try:
        if seen.public:
            ecs.make_private(image.id)
            note(ecs, image, "made private")
        ecs.delete(image.id)
    except EcsError as error:
        return failed(image, error)
    finally:
        progress.advance()
    note(ecs, image, f"deleted; its snapshots stay: {', '.join(seen.snapshots) or 'none'}")
    return Outcome(Fate.DELETED)


def unconfirmed(ecs: Ecs, images: Sequence[Image]) -> dict[Image, Outcome]:
    """The deleted images that the cloud still lists after five minutes, or cannot be asked about, as failures."""
    try:
        images = still_listed(ecs, images)
        for seconds in CONFIRMATION_PAUSES:
            if not images:
                break
            log.info("%s: %d deleted images are still listed; looking again in %d s", ecs.region, len(images), seconds)
            pause(seconds)
            images = still_listed(ecs, images)
    except EcsError as error:
        return {image: failed(image, EcsError(f"its deletion could not be confirmed: {error}")) for image in images}
    still_there = EcsError("the cloud still lists it five minutes after its deletion")
    return {image: failed(image, still_there) for image in images}


def still_listed(ecs: Ecs, images: Sequence[Image]) -> list[Image]:
    return [
        image
        for batch in batches(images, DESCRIBE_LIMIT)
        for listed in [ecs.describe([image.id for image in batch])]
        for image in batch
        if image.id in listed
    ]


def note(ecs: Ecs, image: Image, what: str) -> None:
    log.info("%s %s%s", image, "would be " if ecs.dry_run else "", what)


def gone(image: Image, bootimages: Bootimages) -> Outcome:
    if image.id in bootimages.images:
        log.warning("%s is a bootimage, and is not in the account", image)
        return Outcome(Fate.MISSING)
    log.info("%s is gone already", image)
    return Outcome(Fate.GONE)


def kept(image: Image, reason: str) -> Outcome:
    log.log(logging.DEBUG if reason == BOOTIMAGE else logging.WARNING, "%s is kept: %s", image, reason)
    return Outcome(Fate.KEPT, reason)


def failed(image: Image, error: EcsError) -> Outcome:
    log.error("%s failed: %s", image, error)
    progress.fail()
    return Outcome(Fate.FAILED, error.code or str(error))


# Step 7: the record


def load_record(path: str) -> Record:
    """The record of earlier runs: `{build: [{"region": ..., "image": ..., "deleted": bool}]}`; empty without a file."""
    try:
        with open(path, encoding="utf-8") as file:
            record: Record = parse_json(file.read())
        check_record(record)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refusal(f"the record {path} cannot be read: {error.strerror}; give another --filename") from None
    except ValueError as error:
        raise Refusal(
            f"{path} is not a record of this program: {error}; repair it, or give another --filename"
        ) from None
    return record


def check_record(record: object) -> None:
    """ValueError unless this is a record."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    for build, entries in record.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{build!a:.60} is not a list of objects")
        for entry in entries:
            as_image(build, entry.get("region"), entry.get("image"))
            if not isinstance(entry.get("deleted"), bool):
                raise ValueError(f"an entry of {build!a:.60} does not say whether it is deleted")


def images_to_retry(record: Record, builds: Collection[str]) -> list[Image]:
    """The images on record that are not deleted yet.

    Only those of builds that this release's builds.json lists: what must stay of others, this run does not know.
    """
    return [
        Image(build, entry["region"], entry["image"])
        for build, entries in record.items()
        if build in builds
        for entry in entries
        if not entry["deleted"]
    ]


def updated_record(record: Record, uploads: dict[str, list[Image]], outcomes: dict[Image, Outcome]) -> Record:
    """The record with this run's outcomes; a deletion counts where the cloud no longer lists the image."""

    def is_deleted(image: Image) -> bool:
        return image in outcomes and outcomes[image].fate in (Fate.DELETED, Fate.GONE)

    known = {
        build: [
            {**entry, "deleted": entry["deleted"] or is_deleted(Image(build, entry["region"], entry["image"]))}
            for entry in entries
        ]
        for build, entries in record.items()
    }
    new = {
        build: [{"region": image.region, "image": image.id, "deleted": is_deleted(image)} for image in images]
        for build, images in uploads.items()
    }
    return known | new


def check_writable(path: str) -> None:
    """Refuse now what save_record would fail at."""
    if os.path.isdir(path) or (os.path.exists(path) and not os.access(path, os.W_OK)):
        raise Refusal(f"the record {path} cannot be written: give another --filename")
    try:
        with open(beside(path), "w", encoding="utf-8"):
            pass
        os.unlink(beside(path))
    except OSError as error:
        raise Refusal(f"the record {path} cannot be written: {error.strerror}; give another --filename") from None


def save_record(path: str, record: Record) -> None:
    """Replace the record in one step: whoever reads it, at any moment, sees the old one or the new one."""
    temporary = beside(path)
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            shutil.copymode(path, temporary)
        os.replace(temporary, os.path.realpath(path))
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise OutsideError(
            f"the record {path} could not be written: {error.strerror}; it is as it was, "
            "and the next run will find the deleted images gone"
        ) from None


def beside(path: str) -> str:
    return f"{os.path.realpath(path)}.{os.getpid()}.tmp"


# The run as a whole


def run(args: argparse.Namespace) -> int:
    """The seven steps; exit status 0 when all is done, 1 when something was left."""
    record = load_record(args.filename)
    if not args.dry_run:
        check_writable(args.filename)
    credentials = read_credentials()
    web = Web(os.environ.get("GITHUB_TOKEN", ""))

    bootimages, directories = find_bootimages(web, args.release)
    builds = dated_builds(find_builds(web, directories), args.release)
    uploads, unread = find_uploads(web, builds_to_read(builds, record, bootimages))
    bootimages, uploads = set_apart(bootimages, uploads)

    retried = images_to_retry(record, builds)
    images = by_region(itertools.chain(bootimages.images.values(), *uploads.values(), retried))
    regions = {region: Ecs(region, *credentials, args.dry_run) for region in images}
    check_account(regions, images)
    outcomes = prune_regions(regions, images, bootimages)

    if not args.dry_run:
        save_record(args.filename, updated_record(record, uploads, outcomes))
    for line in summarize(args.dry_run, builds, record, bootimages, unread, outcomes):
        log.info("%s", line)
    log.info("record: %s%s", args.filename, ", not written by a dry run" if args.dry_run else "")
    if unread or any(outcome.fate is Fate.FAILED for outcome in outcomes.values()):
        log.error("not all is done: mend the causes named above, then run the same command again for what is left")
        return 1
    return 0


def read_credentials() -> tuple[str, str]:
    names = "ALIYUN_ACCESS_KEY_ID", "ALIYUN_ACCESS_KEY_SECRET"
    key_id, secret = (os.environ.get(name, "").strip() for name in names)
    for name, value in zip(names, (key_id, secret), strict=True):
        if not value:
            raise Refusal(f"the environment variable {name} is not set: set it to the account's access key")
    return key_id, secret


def builds_to_read(builds: dict[str, list[str]], record: Record, bootimages: Bootimages) -> dict[str, list[str]]:
    """The builds whose images are to be learned: those not on record, and of the young ones only bootimages."""
    wanted = {}
    for build, urls in builds.items():
        if is_young(build) and build not in bootimages.builds:
            log.info("build %s is younger than %d days, so its images are kept", build, YOUNG.days)
        elif build not in record:
            wanted[build] = urls
    return wanted


def set_apart(bootimages: Bootimages, uploads: dict[str, list[Image]]) -> tuple[Bootimages, dict[str, list[Image]]]:
    """The bootimages with all that their builds uploaded, also to regions not in rhcos.json; the other uploads."""
    named = {image.id: image for build in bootimages.builds for image in uploads.get(build, [])}
    others = {build: images for build, images in uploads.items() if build not in bootimages.builds}
    return bootimages._replace(images=bootimages.images | named), others


def by_region(images: Iterable[Image]) -> dict[str, list[Image]]:
    """The images of each region; of several with the same ID the first."""
    regions: dict[str, dict[str, Image]] = defaultdict(dict)
    for image in images:
        regions[image.region].setdefault(image.id, image)
    return {region: list(of_region.values()) for region, of_region in regions.items()}


def prune_regions(
    regions: dict[str, Ecs], images: dict[str, list[Image]], bootimages: Bootimages
) -> dict[Image, Outcome]:
    outcomes: dict[Image, Outcome] = {}
    progress.begin("pruning", sum(map(len, images.values())), "images")

    def prune(region: str) -> dict[Image, Outcome]:
        return prune_region(regions[region], images[region], bootimages)

    for _, future in in_parallel(prune, regions, len(regions)):
        outcomes |= future.result()
    return outcomes


def summarize(
    dry_run: bool,
    builds: Collection[str],
    record: Record,
    bootimages: Bootimages,
    unread: Sequence[str],
    outcomes: dict[Image, Outcome],
) -> Iterator[str]:
    """What the run did, or in a dry run would do, line by line."""
    named = bootimages.builds & set(builds)
    young = [build for build in builds if is_young(build) and build not in named]
    known = [build for build in builds if build in record]
    yield (
        f"builds: {len(builds)}, of these {len(named)} bootimages, {len(young)} younger than {YOUNG.days} days, "
        f"{len(known)} on record already, {len(unread)} not readable"
    )
    reasons: dict[Fate, Counter[str]] = {fate: Counter() for fate in Fate}
    failures: dict[str, Counter[str]] = defaultdict(Counter)
    for image, outcome in outcomes.items():
        reasons[outcome.fate][outcome.reason] += 1
        if outcome.fate is Fate.FAILED:
            failures[image.region][outcome.reason] += 1
    would_be = "that would be " if dry_run else ""
    yield f"images {would_be}deleted: {reasons[Fate.DELETED].total()}"
    yield f"images gone already: {reasons[Fate.GONE].total()}"
    yield f"images {would_be}kept: {reasons[Fate.KEPT].total()} ({counted(reasons[Fate.KEPT])})"
    if reasons[Fate.MISSING]:
        yield f"bootimages that are not in the account: {reasons[Fate.MISSING].total()}"
    yield f"images failed: {reasons[Fate.FAILED].total()}"
    for region, of_region in sorted(failures.items()):
        yield f"  {region}: {counted(of_region)}"


def counted(reasons: Counter[str]) -> str:
    """The reasons with their numbers, the most frequent first."""
    return ", ".join(
        f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    )


class RedactingFormatter(logging.Formatter):
    """Blanks out credentials, which error messages of the API and URLs of the SDK quote."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        for name in ("ALIYUN_ACCESS_KEY_ID", "ALIYUN_ACCESS_KEY_SECRET", "GITHUB_TOKEN"):
            if secret := os.environ.get(name, "").strip():
                line = line.replace(secret, f"<{name}>")
        return re.sub(r"Signature=[^&\s'\")]+", "Signature=<redacted>", line)


def start_log(path: str, debug: bool) -> None:
    """Log to stdout and, with time and time zone, to the file."""
    try:
        to_file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        sys.exit(f"main.py: error: the log {path} cannot be written: {error.strerror}; give another --log-to-file")
    to_file.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    to_stdout = logging.StreamHandler(sys.stdout)
    to_stdout.setFormatter(RedactingFormatter("%(levelname)-7s %(message)s"))
    log.handlers = [to_stdout, to_file]
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    log.propagate = False
    # A full disk or a closed pipe behind the log is no reason for tracebacks, nor to stop halfway.
    logging.raiseExceptions = False
    # The libraries' own logs quote URLs with key ID and signature; with DEBUG=sdk this one prints them by itself.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger("aliyunsdkcore.http.http_response").handlers.clear()
    # From Python 3.12 on, the SDK's vendored urllib3 warns that it sends no server name, and asks for a newer Python.
    logging.captureWarnings(True)


def release_number(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*\.(0|[1-9][0-9]*)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a release: give it in the form 4.10")
    return text


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dry-run", action="store_true", help="Just print what would happen")
    parser.add_argument("--debug", "-d", action="store_true", help="Enable debug logging")
    parser.add_argument(
        "--filename",
        default="deleted_images.json",
        help="Path to file where bootimage data can be recorded; will allow for faster execution if script is run "
        "multiple times",
    )
    parser.add_argument("--log-to-file", default="aliyun_pruner.log", help="Filename to record all log output to")
    parser.add_argument("release", type=release_number, help="OCP release to operate on")
    args = parser.parse_args(argv)
    if os.path.realpath(args.filename) == os.path.realpath(args.log_to_file):
        parser.error("--filename and --log-to-file are the same file")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    start_log(args.log_to_file, args.debug)
    stopped.clear()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stopped.on_signal)
    try:
        return run(args)
    except (Refusal, OutsideError) as error:
        log.error("%s", error)
        return 1
    except Stopped:
        name = signal.Signals(stopped.signum).name
        log.error("interrupted by %s while %s; the record is as it was: run again to go on", name, progress)
        return 128 + stopped.signum


def stay_on_one_cpu() -> None:
    """Of a process whose threads share one GIL, those on other CPUs only wait for it; handing it over costs a third."""
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})


if __name__ == "__main__":
    stay_on_one_cpu()
    status = main()
    sys.stdout.flush()
    # Not sys.exit: after an interrupt it would wait for calls under way, each up to its timeout.
    os._exit(status)
