"""The real history of rhcos.json on the branches of 4.10 and 4.11.

installer_history.json has what the tool reads in it, one line per version, newest first: the commit, the branches that
have it, the host of the store, DIRECTORY/BUILD by architecture, and the Aliyun images in the order of the regions, with
"-" if a region has none.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from world import REGIONS, EcsImage, World, meta_path, stream_metadata

HISTORY = Path(__file__).parent / "installer_history.json"


def history_world() -> World:
    """The real history, each build that it names in the directory that it names, and builds of 4.10 and 4.11 around."""
    history = json.loads(HISTORY.read_text())
    world = World()
    for version in history["versions"]:
        for release in version["branches"]:
            world.branches[f"release-{release}"].append(version["commit"])
        world.versions[version["commit"]] = expand(version, history["regions"])
    add_named_builds(world, history)
    for release in ("4.10", "4.11"):
        world.add_builds_around(60, REGIONS[:24], datetime(2021, 12, 5, 3, 7), release)
    return world


def expand(version: dict[str, Any], regions: str) -> dict[str, Any]:
    """A version of rhcos.json as the installer's repository has it."""
    return stream_metadata(version["builds"], images_of(version, regions), version["host"])


def images_of(version: dict[str, Any], regions: str) -> dict[str, str]:
    """The Aliyun images of a version, by region."""
    return {region: id for region, id in zip(regions.split(), version["images"].split()) if id != "-"}


def add_named_builds(world: World, history: dict[str, Any]) -> None:
    arches = defaultdict(set)
    images: dict[str, dict[str, str]] = defaultdict(dict)
    for version in history["versions"]:
        for arch, place in version["builds"].items():
            arches[place].add(arch)
        images[version["builds"]["x86_64"]] |= images_of(version, history["regions"])
    for place in sorted(arches):
        directory, _, build = place.rpartition("/")
        world.add_build(build, directory=directory, arches=sorted(arches[place]))
        for region, id in images[place].items():
            world.add_image(EcsImage(id, region, build, "bootimage", public=True))
        if "x86_64" in arches[place]:
            uploads = [{"name": region, "id": id} for region, id in images[place].items()]
            world.metas[meta_path(build, "x86_64", directory)]["aliyun"] = uploads
