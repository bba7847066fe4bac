"""What GitHub, the store and the cloud of the sandbox hold, and the worlds that tests and rehearsals begin with."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent))  # if sandbox.py is run as a script
from main import CLOSED_REGIONS

STREAM_METADATA = "data/data/coreos/rhcos.json"
API_HOST = "api.github.com"
RAW_HOST = "raw.githubusercontent.com"
COMMITS_URL = f"https://{API_HOST}/repos/openshift/installer/commits"
# The commit that moved the file to this path. It is the oldest one on every branch.
OLDEST_COMMIT = "61605bdcac8d24dc380cfe27e8d29678e0ffdc38"
STORE_HOST = "rhcos.mirror.openshift.com"
OLD_STORE_HOST = "rhcos-redirector.apps.art.xq1c.p1.openshiftapps.com"
SERVICES = {API_HOST: "github", RAW_HOST: "github", STORE_HOST: "store"}  # of the sandbox, by host; all others are ECS
STORE_ROOT = "/art/storage/"
DIRECTORY = "releases/rhcos-4.10"
BUILDS_URL = f"https://{STORE_HOST}{STORE_ROOT}{DIRECTORY}/builds.json"

KEY_ID, SECRET = "LTAI5tRhcosReleaseEngineer", "kq3sSandboxSecretOfRhcosReleaseEngineer"
OTHER_KEY_ID, OTHER_SECRET = "LTAI5tSomebodyElse", "x7yqSandboxSecretOfSomebodyElse"
TEMPORARY_KEY_ID, TEMPORARY_SECRET = "STS.NTRhcosReleaseEngineer", "9wZzSandboxSecretOfATemporaryKey"
SECURITY_TOKEN = "CAISsandbox+Token/OfATemporaryKey=="
SECRETS = {KEY_ID: SECRET, OTHER_KEY_ID: OTHER_SECRET, TEMPORARY_KEY_ID: TEMPORARY_SECRET}
TOKENS = {TEMPORARY_KEY_ID: SECURITY_TOKEN}
GITHUB_TOKEN = "ghp_sandboxTokenOfRhcosReleaseEngineer"
CREDENTIALS = {"ALIYUN_ACCESS_KEY_ID": KEY_ID, "ALIYUN_ACCESS_KEY_SECRET": SECRET, "GITHUB_TOKEN": GITHUB_TOKEN}

# The regions and the bootimages of 4.10. The first bootimage is in all regions but ap-southeast-6, which opened later.
NAMES = (
    "ap-northeast-1 ap-south-1 ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-5 ap-southeast-6 cn-beijing "
    "cn-chengdu cn-guangzhou cn-hangzhou cn-heyuan cn-hongkong cn-huhehaote cn-nanjing cn-qingdao cn-shanghai "
    "cn-shenzhen cn-wulanchabu cn-zhangjiakou eu-central-1 eu-west-1 me-east-1 us-east-1 us-west-1"
)
ALL_REGIONS = NAMES.split()
BOOTIMAGES = {
    "410.84.202112040202-0": [region for region in ALL_REGIONS if region != "ap-southeast-6"],
    "410.84.202201251210-0": ALL_REGIONS,
    "410.84.202205191234-0": ALL_REGIONS,
    "410.84.202207061638-0": ALL_REGIONS,
    "410.84.202210040010-0": ALL_REGIONS,
}

# What the tool reads in the real history of rhcos.json on the branches of 4.10 and 4.11, one line per version, newest
# first: commit, branches that have it, host of the store, DIRECTORY/BUILD by architecture, Aliyun images by region.
HISTORY = Path(__file__).parent / "installer_history.json"

FEBRUARY = datetime(2022, 2, 1)
PIN = {"bootimage": "true"}


def meta_path(build: str, arch: str = "x86_64", directory: str = DIRECTORY) -> str:
    """Where the store has the meta.json of a build, below STORE_ROOT."""
    return f"{directory}/{build}/{arch}/meta.json"


def ecs_host(region: str) -> str:
    return f"ecs.{region}.aliyuncs.com"


@dataclass
class EcsImage:
    """An image in the cloud. `kind` says what a test expects: "bootimage", "to be pruned", or why it is kept.

    There is one snapshot behind each of its disks; deleting the image leaves them.
    """

    id: str
    region: str
    build: str
    kind: str
    public: bool = False
    status: str = "Available"
    owner: str = KEY_ID
    name: str = ""
    usage: str | None = "none"  # or "instance"
    disks: int = 1
    disks_shown: bool = True  # by DescribeImages
    tags: dict[str, str] = field(default_factory=dict)
    deleted_at: float | None = None

    def __post_init__(self) -> None:
        self.was_public = self.public
        self.name = self.name or f"rhcos-{self.build}"
        self.snapshots = [f"s-{self.id.removeprefix('m-')}{disk or ''}" for disk in range(self.disks)]

    @property
    def listed(self) -> bool:
        """Whether it is in the cloud: it may have been deleted, or have gone with its region."""
        return self.deleted_at is None and self.region not in CLOSED_REGIONS


@dataclass
class EcsSnapshot:
    """A snapshot in the cloud. It outlives the image that was made from it."""

    id: str
    region: str
    image_id: str
    owner: str = KEY_ID
    disk: bool = False  # A disk was created from it.
    tags: dict[str, str] = field(default_factory=dict)
    deleted_at: float | None = None

    @property
    def listed(self) -> bool:
        return self.deleted_at is None and self.region not in CLOSED_REGIONS


def image_id(build: str, region: str) -> str:
    """An ID as ECS gives it, always the same for a build and a region."""
    return "m-" + hashlib.sha256(f"{build} {region}".encode()).hexdigest()[:20]


def build_id(release: str, built: datetime) -> str:
    return f"{release.replace('.', '')}.84.{built:%Y%m%d%H%M}-0"


def days_ago(days: float) -> str:
    """The ID of a build of 4.10 that was made this many days ago."""
    return build_id("4.10", datetime.now(timezone.utc) - timedelta(days=days))


def rhcos_json(build: str, regions: Iterable[str], directory: str, host: str = STORE_HOST) -> dict[str, Any]:
    """A version of rhcos.json that names one build."""
    images = {region: image_id(build, region) for region in regions}
    document = stream_metadata({"x86_64": f"{directory}/{build}"}, images, host)
    document["architectures"]["s390x"] = {"artifacts": {}}
    return document


def stream_metadata(places: Mapping[str, str], images: Mapping[str, str], host: str) -> dict[str, Any]:
    """A version of rhcos.json.

    `places` has DIRECTORY/BUILD by architecture, `images` the Aliyun image of x86_64 by region.
    """
    architectures: dict[str, Any] = {}
    for arch, place in places.items():
        build = place.rpartition("/")[2]
        location = f"https://{host}{STORE_ROOT}{place}/{arch}/rhcos-{build}-metal.{arch}.raw.gz"
        artifact = {"release": build, "formats": {"raw.gz": {"disk": {"location": location, "sha256": "0" * 64}}}}
        architectures[arch] = {"artifacts": {"metal": artifact}}
    if images:
        release = places["x86_64"].rpartition("/")[2]
        regions = {region: {"release": release, "image": image} for region, image in images.items()}
        architectures["x86_64"]["images"] = {"aliyun": {"regions": regions}}
    return {"stream": "rhcos", "metadata": {"last-modified": "2022-10-04T12:44:03Z"}, "architectures": architectures}


class World:
    """What GitHub, the store and the cloud hold. Tests add to it and change it."""

    def __init__(self) -> None:
        self.release = "4.10"  # of what is added
        self.branches: dict[str, list[str]] = defaultdict(list)  # commits, newest first
        self.versions: dict[str, Any] = {}  # rhcos.json by commit
        self.listings: dict[str, list[dict[str, Any]]] = defaultdict(list)  # builds by directory, newest first
        self.tombstones: dict[str, list[dict[str, Any]]] = defaultdict(list)  # the same, of pruned builds
        self.metas: dict[str, Any] = {}  # meta.json by meta_path()
        self.images: dict[str, EcsImage] = {}  # by ID
        self.snapshots: dict[str, EcsSnapshot] = {}  # by ID

    @property
    def directory(self) -> str:
        return f"releases/rhcos-{self.release}"

    def add_commit(self, version: Any) -> str:
        """Add the newest commit, with this rhcos.json."""
        branch = f"release-{self.release}"
        if not self.branches[branch]:
            # As in reality, the oldest version names no Aliyun image.
            self.branches[branch] = [OLDEST_COMMIT]
            build = {"x86_64": "releases/rhcos-4.9/49.84.202109280000-0"}
            self.versions[OLDEST_COMMIT] = stream_metadata(build, {}, STORE_HOST)
        commit = hashlib.sha1(f"{branch} {len(self.branches[branch])}".encode()).hexdigest()
        self.versions[commit] = version
        self.branches[branch].insert(0, commit)
        return commit

    def add_build(
        self,
        build: str,
        regions: Iterable[str] = (),
        kind: str = "to be pruned",
        directory: str = "",
        arches: Sequence[str] = ("x86_64",),
        tombstone: bool = False,
        **image: Any,
    ) -> list[EcsImage]:
        """Add a build to a builds.json, with its meta.json, and an image in each region to the cloud."""
        directory = directory or self.directory
        listing, tombstones = self.listings[directory], self.tombstones[directory]
        (tombstones if tombstone else listing).insert(0, {"id": build, "arches": list(arches)})
        images = [EcsImage(image_id(build, region), region, build, kind, **image) for region in regions]
        for arch in arches:
            uploads = {"aliyun": [{"name": i.region, "id": i.id} for i in images]} if images else {}
            self.metas[meta_path(build, arch, directory)] = {"buildid": build, "coreos-assembler.basearch": arch}
            self.metas[meta_path(build, arch, directory)] |= uploads
        for ecs_image in images:
            self.add_image(ecs_image)
        return images

    def add_image(self, image: EcsImage) -> None:
        """Add an image and its snapshots to the cloud."""
        self.images[image.id] = image
        for id in image.snapshots:
            self.snapshots[id] = EcsSnapshot(id, image.region, image.id, image.owner)

    def add_bootimage(
        self, build: str, regions: Sequence[str], directory: str = "", host: str = STORE_HOST
    ) -> list[EcsImage]:
        """Add a build as add_build does, and a commit that makes it the bootimage."""
        directory = directory or self.directory
        self.add_commit(rhcos_json(build, regions, directory, host))
        return self.add_build(build, regions, "bootimage", directory, public=True)

    def add_builds_around(self, count: int, regions: Sequence[str], start: datetime = FEBRUARY, empty: int = 3) -> None:
        """Add builds to be pruned, half a day apart. Every n-th has no images; of the others every second is public."""
        public = itertools.cycle([True, False])
        for number in range(count):
            build = build_id(self.release, start + timedelta(hours=12 * number))
            if number % empty == empty - 1:
                self.add_build(build)
            else:
                self.add_build(build, regions, public=next(public))

    def images_of(self, build: str) -> list[EcsImage]:
        return [image for image in self.images.values() if image.build == build]

    def snapshots_of(self, image: EcsImage) -> list[EcsSnapshot]:
        return [self.snapshots[id] for id in image.snapshots]

    def listed(self, kind: str = "") -> list[EcsImage]:
        """The images that are neither deleted nor in a closed region, of one kind or of all."""
        return [image for image in self.images.values() if image.listed and kind in ("", image.kind)]

    def kept_images(self) -> set[str]:
        return {image.id for image in self.listed()}

    def regions_to_prune(self) -> set[str]:
        """The regions in which images to be pruned are left."""
        return {image.region for image in self.listed("to be pruned")}

    def snapshots_left(self) -> set[str]:
        """The images whose snapshots are not deleted."""
        return {snapshot.image_id for snapshot in self.snapshots.values() if snapshot.listed}


def default_world(builds: int = 60) -> World:
    """4.10 with its five bootimages, so many builds around them, and one image for each reason to keep it."""
    world = World()
    for build, regions in BOOTIMAGES.items():
        world.add_bootimage(build, regions, host=OLD_STORE_HOST if build < "410.84.202207" else STORE_HOST)
    world.add_builds_around(builds, ALL_REGIONS[:24], datetime(2021, 12, 5, 3, 7))
    world.add_build(days_ago(5), ALL_REGIONS, "young build")
    world.add_build("410.84.202202020000-0", ["us-east-1"], "pinned", tags={"bootimage": "true"})
    world.add_build("410.84.202203030000-0", ["us-east-1"], "another account's", owner=OTHER_KEY_ID, public=True)
    world.add_build("410.84.test-0", ["us-east-1"], "undated build")
    return world


def history_world() -> World:
    """The real history, each build that it names in the directory that it names, and builds of 4.10 and 4.11 around."""
    world = World()
    arches: dict[str, set[str]] = defaultdict(set)
    images: dict[str, dict[str, str]] = defaultdict(dict)
    for version in json.loads(HISTORY.read_text()):
        for release in version["branches"]:
            world.branches[f"release-{release}"].append(version["commit"])
        world.versions[version["commit"]] = stream_metadata(version["builds"], version["images"], version["host"])
        for arch, place in version["builds"].items():
            arches[place].add(arch)
        images[version["builds"]["x86_64"]] |= version["images"]
    for place in sorted(arches):
        directory, _, build = place.rpartition("/")
        world.add_build(build, directory=directory, arches=sorted(arches[place]))
        for region, id in images[place].items():
            world.add_image(EcsImage(id, region, build, "bootimage", public=True))
        if "x86_64" in arches[place]:
            uploads = [{"name": region, "id": id} for region, id in images[place].items()]
            world.metas[meta_path(build, "x86_64", directory)]["aliyun"] = uploads
    for release in ("4.10", "4.11"):
        world.release = release
        world.add_builds_around(60, ALL_REGIONS[:24], datetime(2021, 12, 5, 3, 7))
    return world
