"""What GitHub, the store and the cloud of the sandbox hold, and the worlds that tests and rehearsals begin with."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

STREAM_METADATA = "data/data/coreos/rhcos.json"
API_HOST = "api.github.com"
RAW_HOST = "raw.githubusercontent.com"
COMMITS_PATH = "/repos/openshift/installer/commits"
STORE_HOST = "rhcos.mirror.openshift.com"
OLD_STORE_HOST = "rhcos-redirector.apps.art.xq1c.p1.openshiftapps.com"
STORE_ROOT = "/art/storage/"
DIRECTORY = "releases/rhcos-4.10"

KEY_ID, SECRET = "LTAI5tRhcosReleaseEngineer", "kq3sSandboxSecretOfRhcosReleaseEngineer"
OTHER_KEY_ID, OTHER_SECRET = "LTAI5tSomebodyElse", "x7yqSandboxSecretOfSomebodyElse"
GITHUB_TOKEN = "ghp_sandboxTokenOfRhcosReleaseEngineer"

# The regions and the bootimages of 4.10. The first bootimage is in all regions but ap-southeast-6, which opened later.
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

STATUSES = ("Creating", "Waiting", "Available", "UnAvailable", "CreateFailed", "Deprecated")


def builds_path(directory: str = DIRECTORY) -> str:
    """Where the store has the builds.json of a directory, below STORE_ROOT."""
    return f"{directory}/builds.json"


def meta_path(build: str, arch: str = "x86_64", directory: str = DIRECTORY) -> str:
    """Where the store has the meta.json of a build, below STORE_ROOT."""
    return f"{directory}/{build}/{arch}/meta.json"


def store_url(path: str) -> str:
    return f"https://{STORE_HOST}{STORE_ROOT}{path}"


def builds_url(directory: str = DIRECTORY) -> str:
    return store_url(builds_path(directory))


def meta_url(build: str, arch: str = "x86_64", directory: str = DIRECTORY) -> str:
    return store_url(meta_path(build, arch, directory))


def commits_url() -> str:
    return f"https://{API_HOST}{COMMITS_PATH}"


def version_path(commit: str) -> str:
    return f"/openshift/installer/{commit}/{STREAM_METADATA}"


def version_url(commit: str) -> str:
    """The rhcos.json of a commit."""
    return f"https://{RAW_HOST}{version_path(commit)}"


def ecs_host(region: str) -> str:
    return f"ecs.{region}.aliyuncs.com"


def ecs_url(region: str) -> str:
    return f"https://{ecs_host(region)}/"


@dataclass
class EcsImage:
    """An image in the cloud. `kind` says what a test expects: "bootimage", "to be pruned", or why it is kept."""

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
    """An ID as ECS gives it, always the same for a build and a region."""
    return "m-" + hashlib.sha256(f"{build} {region}".encode()).hexdigest()[:20]


def build_id(release: str, built: datetime) -> str:
    return f"{release.replace('.', '')}.84.{built:%Y%m%d%H%M}-0"


def days_ago(days: float, release: str = "4.10") -> str:
    """The ID of a build that was made this many days ago."""
    return build_id(release, datetime.now(timezone.utc) - timedelta(days=days))


def rhcos_json(build: str | None, regions: Iterable[str], directory: str, host: str = STORE_HOST) -> dict[str, Any]:
    """A version of rhcos.json that names one build, or, without a build, one that names no Aliyun image."""
    architectures: dict[str, Any] = {"s390x": {"artifacts": {}}, "x86_64": {"artifacts": {}, "images": {}}}
    if build:
        folder = f"https://{host}{STORE_ROOT}{directory}/{build}/x86_64"
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


class World:
    """What GitHub, the store and the cloud hold. Tests add to it and change it."""

    def __init__(self, release: str = "4.10") -> None:
        self.release = release
        self.branches: dict[str, list[str]] = defaultdict(list)  # commits, newest first
        self.versions: dict[str, Any] = {}  # rhcos.json by commit; no entry if the commit removed it
        self.listings: dict[str, list[dict[str, Any]]] = defaultdict(list)  # builds by directory, newest first
        self.metas: dict[str, Any] = {}  # meta.json by meta_path()
        self.images: dict[str, EcsImage] = {}  # by ID

    @property
    def directory(self) -> str:
        return f"releases/rhcos-{self.release}"

    def add_commit(self, version: Any = None, branch: str = "") -> str:
        """Add the newest commit, with this rhcos.json; without one, a commit that removed the file."""
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
    ) -> list[EcsImage]:
        """Add a build to a builds.json, with its meta.json, and an image in each region to the cloud."""
        directory = directory or self.directory
        self.listings[directory].insert(0, {"id": build, "arches": list(arches)})
        images = [EcsImage(image_id(build, region), region, build, kind, **image) for region in regions]
        for arch in arches:
            uploads = {"aliyun": [{"name": i.region, "id": i.id} for i in images]} if images else {}
            self.metas[meta_path(build, arch, directory)] = {"buildid": build, "coreos-assembler.basearch": arch}
            self.metas[meta_path(build, arch, directory)] |= uploads
        self.images.update({image.id: image for image in images})
        return images

    def add_bootimage(
        self, build: str, regions: Sequence[str], directory: str = "", host: str = STORE_HOST
    ) -> list[EcsImage]:
        """Add a build as add_build does, and a commit that makes it the bootimage."""
        directory = directory or self.directory
        self.add_commit(rhcos_json(build, regions, directory, host))
        return self.add_build(build, regions, "bootimage", directory, public=True)

    def add_builds_around(
        self, count: int, regions: Sequence[str], start: datetime, release: str = "", empty: int = 3
    ) -> None:
        """Add builds to be pruned, half a day apart. Every n-th has no images; of the others every second is public."""
        release = release or self.release
        public = itertools.cycle([True, False])
        for number in range(count):
            build = build_id(release, start + timedelta(hours=12 * number))
            if number % empty == empty - 1:
                self.add_build(build, directory=f"releases/rhcos-{release}")
            else:
                self.add_build(build, regions, directory=f"releases/rhcos-{release}", public=next(public))

    def images_of(self, build: str) -> list[EcsImage]:
        return [image for image in self.images.values() if image.build == build]

    def listed(self, kind: str = "") -> list[EcsImage]:
        """The images that are not deleted, of one kind or of all."""
        return [image for image in self.images.values() if image.listed and kind in ("", image.kind)]


def default_world() -> World:
    """4.10 with its five bootimages, sixty builds around them, and one image for each reason to keep it."""
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

    `folder` holds one file per version, named by its commit, and commits.json:
    `{branch: [{"sha": ...}]}`, newest first.
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
            world.metas[meta_path(build, arch, directory)]["aliyun"] = []
    for version in world.versions.values():
        regions = version["architectures"]["x86_64"]["images"].get("aliyun", {}).get("regions", {})
        for region, entry in regions.items():
            if entry["image"] not in world.images:
                add_named_image(world, EcsImage(entry["image"], region, entry["release"], "bootimage", public=True))
    for release in ("4.10", "4.11"):
        world.add_builds_around(60, REGIONS[:24], datetime(2021, 12, 5, 3, 7), release)
    return world


def builds_with_places(version: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for directory, build, arch in re.findall(
        r"/art/storage/([^\"]+?)/([^\"/]+)/([^\"/]+)/[^\"/]+\"", json.dumps(version)
    ):
        yield build, directory, arch


def add_named_image(world: World, image: EcsImage) -> None:
    world.images[image.id] = image
    for path, meta in world.metas.items():
        if path.endswith(f"/{image.build}/x86_64/meta.json"):
            meta["aliyun"].append({"name": image.region, "id": image.id})
