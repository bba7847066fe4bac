"""A stand-in for GitHub, the RHCOS store and the ECS API, to run the unchanged main.py in.

    python tests/sandbox.py [--history FOLDER] ./main.py 4.10

runs that command in a small world of its own, and prints what the cloud held before and after. Nothing leaves the
machine: the command gets a proxy on loopback (HTTPS_PROXY) that answers for the real host names, with certificates of
a CA made for the occasion. The services check what the real ones check: TLS, the ECS signature, parameters and limits.

Tests build a World, say by Faults what is to go wrong, and look at what the Sandbox saw.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import trustme
from aiohttp import web

STREAM_METADATA = "data/data/coreos/rhcos.json"
STORE_HOST = "rhcos.mirror.openshift.com"
OLD_STORE_HOST = "rhcos-redirector.apps.art.xq1c.p1.openshiftapps.com"

KEY_ID, SECRET = "LTAI5tRhcosReleaseEngineer", "kq3sSandboxSecretOfRhcosReleaseEngineer"
OTHER_KEY_ID, OTHER_SECRET = "LTAI5tSomebodyElse", "x7yqSandboxSecretOfSomebodyElse"
GITHUB_TOKEN = "ghp_sandboxTokenOfRhcosReleaseEngineer"

# The regions and the bootimages of 4.10; the first went to all regions but ap-southeast-6, which opened later.
REGIONS = [
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-5",
    "ap-southeast-6",
    "cn-beijing",
    "cn-chengdu",
    "cn-guangzhou",
    "cn-hangzhou",
    "cn-heyuan",
    "cn-hongkong",
    "cn-huhehaote",
    "cn-nanjing",
    "cn-qingdao",
    "cn-shanghai",
    "cn-shenzhen",
    "cn-wulanchabu",
    "cn-zhangjiakou",
    "eu-central-1",
    "eu-west-1",
    "me-east-1",
    "us-east-1",
    "us-west-1",
]
BOOTIMAGES = {
    "410.84.202112040202-0": [region for region in REGIONS if region != "ap-southeast-6"],
    "410.84.202201251210-0": REGIONS,
    "410.84.202205191234-0": REGIONS,
    "410.84.202207061638-0": REGIONS,
    "410.84.202210040010-0": REGIONS,
}

CLOCK_START = time.time()

STATUSES = ("Creating", "Waiting", "Available", "UnAvailable", "CreateFailed", "Deprecated")

# A meta.json is 100 to 300 KB, most of it the list of packages.
PACKAGES = json.dumps(
    {"commitmeta": {"pkglist": [["package-" + "x" * 40, "0", "1.0", "1.el8", "x86_64"]] * 1500}}
).encode()


@dataclass
class Image:
    """An image in the cloud. `kind` is what it is in the story that a world tells."""

    id: str
    region: str
    build: str
    kind: str
    public: bool = False
    status: str = "Available"
    owner: str = KEY_ID
    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    deleted_at: float | None = None

    def __post_init__(self) -> None:
        self.was_public = self.public
        self.name = self.name or f"rhcos-{self.build}"

    @property
    def listed(self) -> bool:
        return self.deleted_at is None

    @property
    def snapshot(self) -> str:
        return f"s-{self.id.removeprefix('m-')}"


def image_id(build: str, region: str) -> str:
    """An ID of the form that ECS gives, always the same one for a build and a region."""
    return "m-" + hashlib.sha256(f"{build} {region}".encode()).hexdigest()[:20]


def build_id(release: str, built: datetime) -> str:
    return f"{release.replace('.', '')}.84.{built:%Y%m%d%H%M}-0"


def days_ago(days: float, release: str = "4.10") -> str:
    """The ID of a build of so many days ago."""
    return build_id(release, datetime.now(timezone.utc) - timedelta(days=days))


def rhcos_json(build: str | None, regions: Iterable[str], directory: str, host: str = STORE_HOST) -> dict[str, Any]:
    """A version of rhcos.json that names one build; without a build, one from before there were Aliyun images."""
    architectures: dict[str, Any] = {"s390x": {"artifacts": {}}, "x86_64": {"artifacts": {}, "images": {}}}
    if build:
        folder = f"https://{host}/art/storage/{directory}/{build}/x86_64"
        disk = {"location": f"{folder}/rhcos-{build}-aliyun.x86_64.qcow2.gz", "sha256": "0" * 64}
        architectures["x86_64"] = {
            "artifacts": {"aliyun": {"release": build, "formats": {"qcow2.gz": {"disk": disk}}}},
            "images": {
                "aliyun": {
                    "regions": {region: {"release": build, "image": image_id(build, region)} for region in regions}
                }
            },
        }
    return {"stream": "rhcos", "metadata": {"last-modified": "2022-10-04T12:44:03Z"}, "architectures": architectures}


def sandbox_clock(speed: float) -> Callable[[], float]:
    """A clock like time.time, that goes so many times faster."""
    return lambda: CLOCK_START + (time.time() - CLOCK_START) * speed


class World:
    """What GitHub, the store and the cloud hold. Tests add to it, and change what they need to be different."""

    def __init__(self, release: str = "4.10") -> None:
        self.release = release
        self.branches: dict[str, list[str]] = defaultdict(list)  # commits, newest first
        self.versions: dict[str, Any] = {}  # rhcos.json by commit; no entry where the commit removed it
        self.listings: dict[str, list[dict[str, Any]]] = defaultdict(list)  # builds by directory, newest first
        self.metas: dict[str, Any] = {}  # meta.json by DIRECTORY/BUILD/ARCHITECTURE
        self.images: dict[str, Image] = {}  # by ID

    @property
    def directory(self) -> str:
        return f"releases/rhcos-{self.release}"

    def add_commit(self, version: Any = None, branch: str = "") -> str:
        """Add a commit, as the newest, with this rhcos.json; without one, a commit that removed the file."""
        branch = branch or f"release-{self.release}"
        commit = hashlib.sha1(f"{branch} {len(self.branches[branch])}".encode()).hexdigest()
        self.branches[branch].insert(0, commit)
        if version is not None:
            self.versions[commit] = version
        return commit

    def add_build(
        self,
        build: str,
        regions: Iterable[str] = (),
        kind: str = "to be pruned",
        directory: str = "",
        arches: Sequence[str] = ("x86_64",),
        **image: Any,
    ) -> list[Image]:
        """Add a build to a builds.json, with its meta.json, and an image in each region to the cloud."""
        directory = directory or self.directory
        self.listings[directory].insert(0, {"id": build, "arches": list(arches)})
        images = [Image(image_id(build, region), region, build, kind, **image) for region in regions]
        for arch in arches:
            uploads = {"aliyun": [{"name": i.region, "id": i.id} for i in images]} if images else {}
            self.metas[f"{directory}/{build}/{arch}"] = {"buildid": build, "coreos-assembler.basearch": arch} | uploads
        self.images.update({image.id: image for image in images})
        return images

    def add_bootimage(
        self, build: str, regions: Sequence[str], directory: str = "", host: str = STORE_HOST
    ) -> list[Image]:
        """Add a build as add_build does, and a commit that makes it the bootimage."""
        directory = directory or self.directory
        self.add_commit(rhcos_json(build, regions, directory, host))
        return self.add_build(build, regions, "bootimage", directory, public=True)

    def add_builds_around(
        self, count: int, regions: Sequence[str], start: datetime, release: str = "", empty: int = 3
    ) -> None:
        """Add builds that nobody needs, half a day apart; every n-th has no images, the others are in turn public."""
        release = release or self.release
        public = itertools.cycle([True, False])
        for number in range(count):
            build = build_id(release, start + timedelta(hours=12 * number))
            if number % empty == empty - 1:
                self.add_build(build, directory=f"releases/rhcos-{release}")
            else:
                self.add_build(build, regions, directory=f"releases/rhcos-{release}", public=next(public))

    def images_of(self, build: str) -> list[Image]:
        return [image for image in self.images.values() if image.build == build]

    def listed(self, kind: str = "") -> list[Image]:
        """The images that are not deleted, of one kind or of all."""
        return [image for image in self.images.values() if image.listed and kind in ("", image.kind)]


def default_world() -> World:
    """4.10 with its five bootimages, sixty builds around them, and one image for every reason to keep it."""
    world = World()
    world.add_commit(rhcos_json(None, (), ""))
    for build, regions in BOOTIMAGES.items():
        host = OLD_STORE_HOST if build < "410.84.202207" else STORE_HOST
        world.add_bootimage(build, regions, host=host)
    world.add_builds_around(60, REGIONS[:24], datetime(2021, 12, 5, 3, 7))
    add_kept_images(world)
    return world


def add_kept_images(world: World) -> None:
    release = world.release
    world.add_build(days_ago(5, release), REGIONS, "young build")
    world.add_build(build_id(release, datetime(2022, 2, 2)), ["us-east-1"], "pinned", tags={"bootimage": "true"})
    world.add_build(
        build_id(release, datetime(2022, 3, 3)), ["us-east-1"], "another account's", owner=OTHER_KEY_ID, public=True
    )
    world.add_build(f"{release.replace('.', '')}.84.test-0", ["us-east-1"], "undated build")


def history_world(folder: Path) -> World:
    """The real history, each build that it names in the directory that it names, and builds of 4.10 and 4.11 around.

    `folder` holds a file a version, named by its commit, and commits.json: `{branch: [{"sha": ...}]}`, newest first.
    """
    world = World()
    for branch, commits in json.loads((folder / "commits.json").read_text()).items():
        world.branches[branch] = [commit["sha"] for commit in commits]
    world.versions = {
        path.stem: json.loads(path.read_text()) for path in folder.glob("*.json") if path.stem != "commits"
    }
    places = {place for version in world.versions.values() for place in builds_with_places(version)}
    for build, directory, arch in sorted(places):
        if arch in ("x86_64", "aarch64"):
            world.add_build(build, arches=[arch], directory=directory)
            world.metas[f"{directory}/{build}/{arch}"]["aliyun"] = []
    for version in world.versions.values():
        regions = version["architectures"]["x86_64"]["images"].get("aliyun", {}).get("regions", {})
        for region, entry in regions.items():
            if entry["image"] not in world.images:
                add_named_image(world, Image(entry["image"], region, entry["release"], "bootimage", public=True))
    for release in ("4.10", "4.11"):
        world.add_builds_around(60, REGIONS[:24], datetime(2021, 12, 5, 3, 7), release)
    return world


def builds_with_places(version: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for directory, build, arch in re.findall(
        r"/art/storage/([^\"]+?)/([^\"/]+)/([^\"/]+)/[^\"/]+\"", json.dumps(version)
    ):
        yield build, directory, arch


def add_named_image(world: World, image: Image) -> None:
    world.images[image.id] = image
    for path, meta in world.metas.items():
        if path.endswith(f"/{image.build}/x86_64"):
            meta["aliyun"].append({"name": image.region, "id": image.id})


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


class GitHub:
    """The list of commits, and the files of each: https://docs.github.com/rest/commits/commits#list-commits"""

    def __init__(self, world: World) -> None:
        self.world = world
        self.budget: int | None = None  # API calls that are left in this hour
        self.reset = 2_000_000_000
        self.tokens: list[str] = []

    def answer_api(self, path: str, query: dict[str, str], token: str) -> Answer:
        self.tokens.append(token)
        if token and token != f"Bearer {GITHUB_TOKEN}":
            return Answer(401, {"message": "Bad credentials"})
        if self.budget is not None:
            self.budget -= 1
            if self.budget < 0:
                headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(self.reset), "Retry-After": "3000"}
                return Answer(403, {"message": "API rate limit exceeded"}, headers)
        if path != "/repos/openshift/installer/commits" or query.get("path") != STREAM_METADATA:
            return Answer(404, {"message": "Not Found"})
        branch = query.get("sha", "")
        if branch not in self.world.branches:
            return Answer(404, {"message": f"No commit found for SHA: {branch}"})
        size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        commits = self.world.branches[branch]
        headers = {}
        if len(commits) > page * size:
            link = f"https://api.github.com{path}?{urlencode({**query, 'per_page': size, 'page': page + 1})}"
            headers["Link"] = f'<{link}>; rel="next", <{link}>; rel="last"'
        return Answer(200, [{"sha": commit} for commit in commits[(page - 1) * size : page * size]], headers)

    def answer_raw(self, path: str) -> Answer:
        match = re.fullmatch(rf"/openshift/installer/([0-9a-f]+)/{STREAM_METADATA}", path)
        if not match or match[1] not in self.world.versions:
            return Answer(404, b"404: Not Found")
        return Answer(200, self.world.versions[match[1]])


class Store:
    """builds.json and meta.json, with 403 for everything else."""

    def __init__(self, world: World) -> None:
        self.world = world

    def answer(self, path: str) -> Answer:
        match = re.fullmatch(r"/art/storage/(.+)/builds\.json", path)
        if match and match[1] in self.world.listings:
            return Answer(200, {"schema-version": "1.0.0", "builds": self.world.listings[match[1]]})
        match = re.fullmatch(r"/art/storage/(.+)/meta\.json", path)
        if match and match[1] in self.world.metas:
            return Answer(200, json.dumps(self.world.metas[match[1]]).encode()[:-1] + b"," + PACKAGES[1:])
        return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")


class Ecs:
    """The four operations, with checks and error codes of the API reference; one clock for all regions."""

    def __init__(self, world: World, faults: Faults, clock: Callable[[], float]) -> None:
        self.world = world
        self.faults = faults
        self.clock = clock
        self.nonces: set[str] = set()
        self.signatures: set[str] = set()
        self.calls_in_minute: Counter[tuple[str, str, int]] = Counter()
        self.images: dict[tuple[str, str], Image] = {}
        self.operations = {
            "DescribeImages": self.describe_images,
            "TagResources": self.tag_resources,
            "ModifyImageSharePermission": self.modify_image_share_permission,
            "DeleteImage": self.delete_image,
        }

    def answer(self, method: str, host: str, query: dict[str, str]) -> Answer:
        try:
            account = self.check_request(method, host, query)
            self.throttle(query["RegionId"], query["Action"])
            result = self.operations[query["Action"]](account, query)
        except Refused as refused:
            return refused.answer
        return Answer(200, {"RequestId": "00000000-0000-0000-0000-000000000000"} | result)

    def check_request(self, method: str, host: str, query: dict[str, str]) -> str:
        """Check the common parameters and the signature, as described at
        https://www.alibabacloud.com/help/en/sdk/product-overview/rpc-mechanism; the account that signed."""
        for name in ("Action", "RegionId", "AccessKeyId", "Signature", "SignatureNonce", "Timestamp"):
            if not query.get(name):
                raise Refused(400, f"Missing{name}")
        if query["Action"] not in self.operations or query.get("Version") != "2014-05-26":
            raise Refused(404, "InvalidAction.NotFound")
        if host != f"ecs.{query['RegionId']}.aliyuncs.com":
            raise Refused(404, "InvalidRegionId.NotFound")
        signed = datetime.strptime(query["Timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        if abs((datetime.now(timezone.utc) - signed).total_seconds()) > 900:
            raise Refused(400, "InvalidTimeStamp.Expired")
        if query["SignatureNonce"] in self.nonces:
            raise Refused(400, "SignatureNonceUsed")
        self.nonces.add(query["SignatureNonce"])
        self.signatures.add(query["Signature"])
        secrets = {KEY_ID: SECRET, OTHER_KEY_ID: OTHER_SECRET}
        if query["AccessKeyId"] not in secrets:
            raise Refused(
                404, "InvalidAccessKeyId.NotFound", f"Specified access key {query['AccessKeyId']} is not found."
            )
        to_sign = string_to_sign(method, query)
        if query["Signature"] != signature(to_sign, secrets[query["AccessKeyId"]]):
            raise Refused(400, "SignatureDoesNotMatch", f"server string to sign is:{to_sign}")
        return query["AccessKeyId"]

    def throttle(self, region: str, operation: str) -> None:
        if operation in self.faults.throttled_operations:
            raise Refused(400, "Throttling", "Request was denied due to request throttling.")
        if self.faults.calls_a_minute is None:
            return
        minute = region, operation, int(self.clock() // 60)
        self.calls_in_minute[minute] += 1
        if self.calls_in_minute[minute] > self.faults.calls_a_minute:
            raise Refused(400, "Throttling.User", "Request was denied due to user flow control.")

    def find(self, account: str, region: str, id: str) -> Image | None:
        """An image that the account may see, unless it has left the listing."""
        image = self.world.images.get(id)
        if image is None or image.region != region or not (image.owner == account or image.public):
            return None
        if image.deleted_at is not None and self.clock() - image.deleted_at >= self.faults.listing_lag:
            return None
        return image

    def find_own(self, account: str, region: str, id: str) -> Image:
        image = self.find(account, region, id)
        if image is None:
            raise Refused(404, "InvalidImageId.NotFound", f"The specified image {id} does not exist.")
        if image.owner != account:
            raise Refused(403, "OperationDenied", "The image belongs to another account.")
        return image

    def describe_images(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        size, page = int(query.get("PageSize", 10)), int(query.get("PageNumber", 1))
        ids = query["ImageId"].split(",") if "ImageId" in query else []
        statuses = query.get("Status", "Available").split(",")
        if not 1 <= size <= 100 or page < 1 or len(ids) > 100 or not set(statuses) <= set(STATUSES):
            raise Refused(400, "InvalidParameter")
        self.refuse_by_fault("DescribeImages", ids)
        visible = (self.find(account, query["RegionId"], id) for id in dict.fromkeys(ids or self.world.images))
        listed = [image for image in visible if image and image.status in statuses]
        if "ImageOwnerAlias" in query:
            listed = [image for image in listed if (image.owner == account) == (query["ImageOwnerAlias"] == "self")]
        return {
            "RegionId": query["RegionId"],
            "TotalCount": len(listed),
            "PageNumber": page,
            "PageSize": size,
            "Images": {"Image": [as_described(image, account) for image in listed[(page - 1) * size : page * size]]},
        }

    def tag_resources(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        ids = [query[f"ResourceId.{n}"] for n in range(1, 1 + sum(name.startswith("ResourceId.") for name in query))]
        if not 1 <= len(ids) <= 50 or query.get("ResourceType") != "image":
            raise Refused(400, "InvalidParameter")
        self.refuse_by_fault("TagResources", ids)
        images = [self.find(account, query["RegionId"], id) for id in ids]
        if any(image is None or image.owner != account for image in images):
            raise Refused(404, "InvalidResourceId.NotFound")
        for image in images:
            assert image is not None
            image.tags[query["Tag.1.Key"]] = query["Tag.1.Value"]
        return {}

    def modify_image_share_permission(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        self.refuse_by_fault("ModifyImageSharePermission", [query["ImageId"]])
        image = self.find_own(account, query["RegionId"], query["ImageId"])
        if query.get("IsPublic", "false") != "false":
            raise Refused(400, "InvalidParameter.IsPublic")
        if not image.public:
            raise Refused(403, "InvalidOperation.ImageNotPublic", "The image is not a community image.")
        image.public = False
        return {}

    def delete_image(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        self.refuse_by_fault("DeleteImage", [query["ImageId"]])
        image = self.find_own(account, query["RegionId"], query["ImageId"])
        if image.public:
            raise Refused(403, "ImageIsPublic")
        if query.get("Force") == "true":
            raise Refused(403, "Forbidden.RAM", "The sandbox's policy does not grant Force.")
        if image.deleted_at is None:
            image.deleted_at = self.clock()
        return {}

    def refuse_by_fault(self, operation: str, ids: Iterable[str]) -> None:
        for id in ("", *ids):
            if (operation, id) in self.faults.refusals:
                raise self.faults.refusals[operation, id]


def as_described(image: Image, account: str) -> dict[str, Any]:
    return {
        "ImageId": image.id,
        "ImageName": image.name,
        "ImageOwnerAlias": "self" if image.owner == account else "others",
        "IsPublic": image.public,
        "Status": image.status,
        "Tags": {"Tag": [{"TagKey": key, "TagValue": value} for key, value in image.tags.items()]},
        "DiskDeviceMappings": {"DiskDeviceMapping": [{"Device": "/dev/xvda", "SnapshotId": image.snapshot}]},
    }


def string_to_sign(method: str, query: dict[str, str]) -> str:
    encoded = [f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(query.items()) if k != "Signature"]
    return f"{method}&%2F&{quote('&'.join(encoded), safe='~')}"


def signature(to_sign: str, secret: str) -> str:
    return base64.b64encode(hmac.digest(f"{secret}&".encode(), to_sign.encode(), "sha1")).decode()


class Sandbox:
    """The services behind a proxy on loopback, in a thread; a context manager.

    With a `clock_speed` of 60, minutes pass in seconds, for the services and for the command.
    `calls` lists every request, `handshakes` counts TLS handshakes by host, `leaks` names what should not have been
    sent where it was sent.
    """

    def __init__(self, world: World, faults: Faults | None = None, clock_speed: float = 1) -> None:
        self.world = world
        self.faults = faults or Faults()
        self.clock_speed = clock_speed
        self.github = GitHub(world)
        self.store = Store(world)
        self.ecs = Ecs(world, self.faults, sandbox_clock(clock_speed))
        self.calls: list[Call] = []
        self.handshakes: Counter[str] = Counter()
        self.leaks: list[str] = []
        self.under_way: Counter[str] = Counter()
        self.most_under_way: Counter[str] = Counter()
        self.random = random.Random(self.faults.seed)
        self.ca = trustme.CA()
        self.tls: dict[str, ssl.SSLContext] = {}

    def __enter__(self) -> Sandbox:
        self.folder = tempfile.TemporaryDirectory()
        self.ca_file = str(Path(self.folder.name) / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.listener.setblocking(False)
        self.proxy = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.loop = asyncio.new_event_loop()
        self.serving_begun = threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[self.serve()])
        self.thread.start()
        self.serving_begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.serving.cancel)
        self.thread.join()
        self.loop.close()
        self.listener.close()
        self.folder.cleanup()

    def environment(self) -> dict[str, str]:
        """The environment of a command that is to run in this sandbox."""
        inherited = {name: value for name, value in os.environ.items() if name.lower() not in ("no_proxy", "all_proxy")}
        clock = {
            "PYTHONPATH": str(Path(__file__).parent / "fast_clock"),
            "SANDBOX_CLOCK_SPEED": str(self.clock_speed),
            "SANDBOX_CLOCK_START": str(CLOCK_START),
        }
        return (
            inherited
            | (clock if self.clock_speed != 1 else {})
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "HTTP_PROXY": self.proxy,
                "HTTPS_PROXY": self.proxy,
                "http_proxy": self.proxy,
                "https_proxy": self.proxy,
                "REQUESTS_CA_BUNDLE": self.ca_file,
                "ALIBABA_CLOUD_CA_BUNDLE": self.ca_file,
                "ALIYUN_ACCESS_KEY_ID": KEY_ID,
                "ALIYUN_ACCESS_KEY_SECRET": SECRET,
                "GITHUB_TOKEN": GITHUB_TOKEN,
            }
        )

    # The proxy

    async def serve(self) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self.serving = serving
        self.serving_begun.set()
        self.server = web.Server(self.handle, access_log=None)
        tunnels = set()
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                connection, _ = await self.loop.sock_accept(self.listener)
                tunnel = self.loop.create_task(self.open_tunnel(connection))
                tunnels.add(tunnel)
                tunnel.add_done_callback(tunnels.discard)
        await self.server.shutdown(0.01)  # seconds; 0 would wait for ever
        unfinished = asyncio.all_tasks() - {serving}
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    async def open_tunnel(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                received = await self.loop.sock_recv(connection, 4096)
                if not received:
                    connection.close()
                    return
                head += received
            method, target = head.decode("latin-1").split(" ")[:2]
            host = target.partition(":")[0]
            self.under_way["connection"] += 1
            await asyncio.sleep(self.faults.latency.get("connection", 0))
            self.under_way["connection"] -= 1
            if method != "CONNECT":
                self.leaks.append(f"plain HTTP: {method} {target}")
            if method != "CONNECT" or host in self.faults.dead_hosts or not service_of(host):
                await self.loop.sock_sendall(connection, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                connection.close()
                return
            await self.loop.sock_sendall(connection, b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self.loop.connect_accepted_socket(self.server, connection, ssl=self.tls_context(host))
            self.handshakes[host] += 1

    def tls_context(self, host: str) -> ssl.SSLContext:
        if host not in self.tls:
            self.tls[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.ca.issue_cert(host).configure_cert(self.tls[host])
        return self.tls[host]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        service = service_of(request.host)
        query = dict(parse_qsl(urlsplit(request.raw_path).query, keep_blank_values=True))
        where = query.get("RegionId", "") if service == "ecs" else request.host
        what = query.get("Action", "") if service == "ecs" else request.path
        came_at = self.ecs.clock()
        self.note_leaks(request)
        self.under_way[service] += 1
        self.most_under_way[service] = max(self.most_under_way[service], self.under_way[service])
        try:
            await asyncio.sleep(self.faults.latency.get(service, 0) + self.faults.latency.get(where, 0))
            answer = self.answer_or_fault(service, request, query)
        finally:
            self.under_way[service] -= 1
        self.calls.append(Call(service, what, where, answer.status if answer else 0, came_at))
        if answer is None or what in self.faults.lose_first_answer:
            self.faults.lose_first_answer.discard(what)
            assert request.transport is not None
            request.transport.abort()
            raise asyncio.CancelledError
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        if what.rpartition("/")[2] in self.faults.cut_first_answer:
            self.faults.cut_first_answer.discard(what.rpartition("/")[2])
            assert request.transport is not None
            request.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[: len(body) // 2]
            )
            request.transport.close()
            raise asyncio.CancelledError
        return web.Response(status=answer.status, body=body, headers=answer.headers)

    def answer_or_fault(self, service: str, request: web.BaseRequest, query: dict[str, str]) -> Answer | None:
        """The answer, or None where the connection is to be lost."""
        chance = self.random.random()
        for rate, answer in (
            (self.faults.unavailable, Answer(503, b"")),
            (self.faults.broken, Answer(500, b"<html><body><h1>Internal Server Error</h1></body></html>")),
            (self.faults.lost_before, None),
        ):
            if chance < rate:
                return answer
            chance -= rate
        answer = self.answer(service, request, query)
        return None if chance < self.faults.lost_after else answer

    def answer(self, service: str, request: web.BaseRequest, query: dict[str, str]) -> Answer:
        path = unquote(urlsplit(request.raw_path).path)
        fixed = self.faults.answers.get(f"https://{request.host}{path}")
        if fixed is not None:
            return fixed
        if service == "ecs":
            return self.ecs.answer(request.method, request.host, query)
        if service == "store":
            return self.store.answer(path)
        if request.host == "api.github.com":
            return self.github.answer_api(path, query, request.headers.get("Authorization", ""))
        return self.github.answer_raw(path)

    def note_leaks(self, request: web.BaseRequest) -> None:
        if request.host != "api.github.com" and "Authorization" in request.headers:
            self.leaks.append(f"Authorization sent to {request.host}")


def service_of(host: str) -> str:
    """github, store or ecs; empty for a host that does not exist in the sandbox."""
    if host in ("api.github.com", "raw.githubusercontent.com"):
        return "github"
    if host == STORE_HOST:
        return "store"
    return "ecs" if re.fullmatch(r"ecs\.[a-z0-9-]+\.aliyuncs\.com", host) else ""


# The command line


def report(sandbox: Sandbox, before: Counter[str]) -> str:
    """What the cloud held before and after, and the requests that were made."""
    after = Counter(image.kind for image in sandbox.world.listed())
    bootimages = sandbox.world.listed("bootimage")
    tagged = sum(image.tags == {"bootimage": "true"} for image in bootimages)
    rows = [f"{'images':24}{'before':>8}{'after':>8}"]
    rows += [f"{kind:24}{before[kind]:8}{after[kind]:8}" for kind in sorted(before)]
    rows += [f"bootimages untouched: {len(bootimages)} of {before['bootimage']}, tagged bootimage=true: {tagged}"]
    requests = Counter(call.what if call.service == "ecs" else call.service for call in sandbox.calls)
    rows += ["requests: " + ", ".join(f"{what} {count}" for what, count in sorted(requests.items()))]
    rows += [f"LEAK: {leak}" for leak in sandbox.leaks]
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Run a command against a stand-in for GitHub, RHCOS store and ECS API."
    )
    parser.add_argument(
        "--history", type=Path, metavar="FOLDER", help="serve the versions of rhcos.json in this folder (commits.json)"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    args = parser.parse_args(argv)
    if not args.command:
        parser.error("no command given: try ./main.py 4.10")
    world = history_world(args.history) if args.history else default_world()
    before = Counter(image.kind for image in world.images.values())
    with Sandbox(world) as sandbox:
        status = subprocess.run(args.command, env=sandbox.environment(), check=False).returncode
        print(report(sandbox, before))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
