"""What a run does, step by step as in the README."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune
from services import STATUSES
from world import GITHUB_TOKEN, OLD_STORE_HOST, EcsImage, World, history_world, image_id

REGION = REGIONS[0]


def test_images_of_every_directory_tombstone_and_architecture_are_found(world: World, prune: Prune) -> None:
    usual = ["releases/rhcos-4.10", "releases/rhcos-4.10-aarch64", "prod/streams/4.10/builds"]
    usual += ["prod/streams/4.10-9.2/builds", "prod/streams/4.10-9.4/builds"]
    world.add_bootimage("410.84.202205190000-0", REGIONS, "releases/named", host=OLD_STORE_HOST)
    for number, directory in enumerate([*usual, "releases/named"]):
        world.add_build(f"410.84.20220601000{number}-0", REGIONS, directory=directory)
    world.add_build("410.84.202206020000-0", REGIONS, tombstone=True)
    arm = world.add_build("410.84.202206030000-0", REGIONS, arches=["aarch64", "ppc64le", "x86_64"])[0].build
    del world.metas[f"{world.directory}/{arm}/x86_64/meta.json"]["aliyun"]
    # Only the meta.json of a bootimage names this one, and that is read although the build is on record.
    world.add_image(EcsImage("m-uploaded", "eu-west-1", OLD_BOOTIMAGE, "bootimage"))
    uploads = world.metas[f"{world.directory}/{OLD_BOOTIMAGE}/x86_64/meta.json"]["aliyun"]
    uploads.append({"name": "eu-west-1", "id": "m-uploaded"})
    prune.write_record({OLD_BOOTIMAGE: []})
    run = prune()
    run.assert_all_pruned()
    assert all(image.tags == {"bootimage": "true"} for image in world.listed("bootimage"))
    assert {call.what.split("/")[-2] for call in run.calls("store", arm)} == {"aarch64", "x86_64"}


@pytest.mark.parametrize("name", ["4.10", "4.11"])
def test_real_history_keeps_all_that_it_names(tmp_path: Path, name: str) -> None:
    prune = Prune(world := history_world(), tmp_path)
    run = prune("--dry-run", name)
    builds = {image.id: image.build for image in world.listed("to be pruned")}
    assert run.status == 0
    deleted = re.findall(r"would delete \S+ (\S+)", run.log)
    assert sorted(deleted) == sorted(id for id in builds if builds[id].startswith(name.replace(".", "") + "."))
    other = {"4.10": "4.11", "4.11": "4.10"}[name]  # The branch of 4.11 begins with versions that name builds of 4.10.
    assert not [call for call in run.calls("store", "/builds.json") if other in call.what]


STEPS = ["/commits", "/rhcos.json", "DescribeImages", "/builds.json", "/meta.json", "TagResources", "DeleteImage"]


def test_images_of_builds_that_no_version_names_are_deleted_in_seven_steps(world: World, prune: Prune) -> None:
    run = prune()
    run.assert_all_pruned()
    assert Counter(image.build for image in world.listed()) == {OLD_BOOTIMAGE: 2, BOOTIMAGE: 2}
    assert run.recorded.keys() == {image.id for image in world.images.values() if not image.listed}
    for build, private in ((PUBLIC_BUILD, ["ModifyImageSharePermission"]), (PRIVATE_BUILD, [])):
        calls = [call for call in run.calls("ecs") if image_id(build, REGION) in call.ids]
        changes = [call.what for call in calls if not call.what.startswith("Describe")]
        assert changes == ["TagResources", *private, "DeleteImage"]
    seen = [call.what for call in run.sandbox.calls]
    first = [next(n for n, what in enumerate(seen) if what.endswith(step)) for step in STEPS]
    assert first == sorted(first) and first[5] > max(n for n, what in enumerate(seen) if what.endswith(".json"))
    # With a token, the versions come from the API. At the end of each run it is checked that no other host got it.
    assert len(run.calls("github", "/contents/")) == len(world.versions)
    assert set(run.sandbox.github.tokens) == {f"Bearer {GITHUB_TOKEN}"}


def test_without_a_token_images_of_every_status_are_pruned_and_only_wrong_tags_set(world: World, prune: Prune) -> None:
    for number, status in enumerate(STATUSES):
        world.add_build(f"410.84.20220601000{number}-0", REGIONS, status=status)
    for image in world.images.values():
        image.tags["bootimage"] = str(image.kind == "bootimage").lower()
    wrong, missing = world.images_of(BOOTIMAGE)[0], world.images_of(PRIVATE_BUILD)[0]
    wrong.tags, missing.tags = {"bootimage": "false"}, {}
    run = prune(env={"GITHUB_TOKEN": None})
    run.assert_all_pruned()
    assert {id for call in run.calls("ecs", "Tag") for id in call.ids if id[:2] == "m-"} == {wrong.id, missing.id}
    assert wrong.tags == {"bootimage": "true"}
    assert (run.calls("github", "/contents/"), set(run.sandbox.github.tokens)) == ([], {""})


def test_a_call_looks_at_a_hundred_images_or_tags_fifty_and_four_are_made_at_once(world: World, prune: Prune) -> None:
    world.add_builds_around(165, [REGION])
    prune.faults.latency["ecs"] = 0.05
    calls = prune().calls("ecs", where=REGION)
    counts = Counter(call.what for call in calls)
    # For 112 images and two bootimages: the witness, two pages of the account, two looks before, and two after.
    assert (counts["DescribeImages"], counts["TagResources"], counts["DeleteImage"]) == (7, 1 + 2 * 3, 112)
    times = sorted(call.at for call in calls if call.what == "DeleteImage")
    assert all(fifth - first > 0.04 for first, fifth in zip(times, times[4:]))
