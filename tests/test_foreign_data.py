"""Any JSON as a document from outside ends in a clean refusal or a clean run, never in a deletion that is forbidden."""

import contextlib
import copy
import io
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, check_promises
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from proxy import Sandbox
from world import DIRECTORY, World, image_id, meta_path, rhcos_json

import main

settings.register_profile(
    "sandbox",
    deadline=None,
    derandomize=True,
    max_examples=int(os.environ.get("EXAMPLES", "40")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("sandbox")

# Words that mean something to main.py, beside any that hypothesis finds.
WORDS = [
    BOOTIMAGE,
    PUBLIC_BUILD,
    "411.86.202207150124-0",
    image_id(BOOTIMAGE, "us-east-1"),
    image_id(PUBLIC_BUILD, "us-east-1"),
    "us-east-1",
    "x86_64",
    "../../..",
    "m-1,m-2",
    "https://rhcos.mirror.openshift.com/art/storage/../../etc/1/x86_64/x",
]
KEYS = [
    "builds",
    "id",
    "arches",
    "aliyun",
    "name",
    "region",
    "image",
    "deleted",
    "architectures",
    "release",
    "location",
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(WORDS)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS + WORDS) | st.text(max_size=5), children, max_size=4)
    ),
    max_leaves=12,
)

LISTING = {"builds": [{"id": build, "arches": ["x86_64"]} for build in (PUBLIC_BUILD, PRIVATE_BUILD, BOOTIMAGE)]}
META = {"buildid": PUBLIC_BUILD, "aliyun": [{"name": r, "id": image_id(PUBLIC_BUILD, r)} for r in REGIONS]}
RECORD = {
    PUBLIC_BUILD: [{"region": r, "image": image_id(PUBLIC_BUILD, r), "deleted": r == REGIONS[0]} for r in REGIONS],
    "410.84.202001010000-0": [],
}


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> Any:
    """The document with up to three of its nodes removed or replaced."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        nodes = list(containers(document))
        if not nodes:
            return draw(DOCUMENTS)
        node = draw(st.sampled_from(nodes))
        key = draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        if draw(st.booleans()):
            node[key] = draw(DOCUMENTS)
        else:
            del node[key]
    return document


def containers(node: Any) -> Iterator[Any]:
    """The dicts and lists of a document that are not empty."""
    if isinstance(node, (dict, list)) and node:
        yield node
        for child in node.values() if isinstance(node, dict) else node:
            yield from containers(child)


def small_world() -> World:
    world = World()
    world.add_bootimage(OLD_BOOTIMAGE, REGIONS)
    world.add_bootimage(BOOTIMAGE, REGIONS)
    world.add_build(PUBLIC_BUILD, REGIONS, public=True)
    world.add_build(PRIVATE_BUILD, REGIONS)
    return world


def assert_clean(world: World, record: object = None) -> int:
    """Run main() in the world, in this process for speed, and check what no run may do; its exit status."""
    handlers = {signum: signal.getsignal(signum) for signum in main.SIGNALS}
    with (
        Sandbox(world) as sandbox,
        tempfile.TemporaryDirectory() as folder,
        patch.dict(os.environ, sandbox.environment()),
        contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")),
    ):
        path = Path(folder) / "record.json"
        if record is not None:
            path.write_text(json.dumps(record))
        before = path.read_text() if path.exists() else None
        status = main.main(["--filename", str(path), "--log-to-file", f"{folder}/log", "4.10"])
        assert "Traceback" not in Path(f"{folder}/log").read_text()
        if path.exists() and path.read_text() != before:
            json.loads(path.read_text())
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    assert status in (0, 1)
    check_promises(sandbox)
    return status


@given(DOCUMENTS | damaged(RECORD))
@example({BOOTIMAGE: [{"region": "us-east-1", "image": image_id(BOOTIMAGE, "us-east-1"), "deleted": False}]})
def test_any_record(record: object) -> None:
    assert_clean(small_world(), record)


@given(DOCUMENTS | damaged(rhcos_json(PUBLIC_BUILD, REGIONS, DIRECTORY)))
def test_any_rhcos_json(version: object) -> None:
    world = small_world()
    world.add_commit({"json": version})
    world.versions[world.branches["release-4.10"][0]] = json.dumps(version).encode()
    assert_clean(world)


@given(DOCUMENTS | damaged(LISTING))
def test_any_builds_json(listing: object) -> None:
    world = small_world()
    world.listings[world.directory] = listing  # type: ignore[assignment]
    assert_clean(world)


@given(DOCUMENTS | damaged(META), st.sampled_from([PUBLIC_BUILD, BOOTIMAGE]))
def test_any_meta_json(meta: object, build: str) -> None:
    world = small_world()
    world.metas[meta_path(build)] = meta
    assert_clean(world)


@pytest.mark.parametrize("version", [rhcos_json(PUBLIC_BUILD, REGIONS, DIRECTORY)])
def test_undamaged_documents_are_accepted(version: object) -> None:
    world = small_world()
    world.add_commit(version)
    assert assert_clean(world, RECORD) == 0
    assert {image.build for image in world.listed("to be pruned")} == {PUBLIC_BUILD}
