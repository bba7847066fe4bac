"""Runs on the real history of rhcos.json."""

from pathlib import Path

import pytest
from harness import Prune
from history import history_world


@pytest.mark.parametrize("release", ["4.10", "4.11"])
def test_run_on_the_real_history_keeps_every_build_that_it_names(tmp_path: Path, release: str) -> None:
    world = history_world()
    other = {"4.10": "411.", "4.11": "410."}[release]
    before = {image.id for image in world.listed("bootimage")}
    run = Prune(world, tmp_path)(release)
    assert run.status == 0
    assert {image.id for image in world.listed("bootimage")} == before
    assert {image.build[:4] for image in world.listed("to be pruned")} == {other}
    named = {
        entry["image"]
        for commit in world.branches[f"release-{release}"]
        for entry in world.versions[commit]["architectures"]["x86_64"]
        .get("images", {})
        .get("aliyun", {})
        .get("regions", {})
        .values()
    }
    assert {id for id in named if world.images[id].state == "kept"} == {
        image.id for image in world.listed() if image.tags == {"bootimage": "true"}
    }
