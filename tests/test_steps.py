"""The seven steps of the README, and what they do when something goes wrong: the whole program in the sandbox."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from faults import LOST, NO_IMAGES, REQUEST_ID, Answer, EcsFault, Faults, WebFault, ecs_error
from harness import (
    BOOTIMAGE,
    OLD_BOOTIMAGE,
    PRIVATE_BUILD,
    PUBLIC_BUILD,
    REGIONS,
    Prune,
    Run,
    assert_record_is_true,
    recorded,
)
from harness import assert_next_run_finishes as next_run_finishes
from history import history_world
from world import GITHUB_TOKEN, OLD_STORE_HOST, OTHER_KEY_ID, STATUSES, EcsImage, World, image_id, meta_path, rhcos_json

import main

REGION = REGIONS[0]
PUBLIC, PRIVATE = image_id(PUBLIC_BUILD, REGION), image_id(PRIVATE_BUILD, REGION)
STEPS = ["/commits", "/rhcos.json", "DescribeImages", "/builds.json", "/meta.json", "TagResources", "DeleteImage"]


def assert_all_pruned(run: Run) -> None:
    assert (run.status, run.output.count("ERROR")) == (0, 0)
    assert run.sandbox.world.listed("to be pruned") == []
    assert all(recorded(run).values())


def test_images_of_builds_that_no_version_names_are_deleted_in_seven_steps(world: World, prune: Prune) -> None:
    run = prune()
    assert_all_pruned(run)
    assert Counter(image.build for image in world.listed()) == {OLD_BOOTIMAGE: 2, BOOTIMAGE: 2}
    assert recorded(run).keys() == {image.id for image in world.images.values() if not image.listed}
    for id, private in ((PUBLIC, ["ModifyImageSharePermission"]), (PRIVATE, [])):
        changes = [call.what for call in run.calls("ecs") if id in call.ids and not call.what.startswith("Describe")]
        assert changes == ["TagResources", *private, "DeleteImage"]
    seen = [call.what for call in run.sandbox.calls]
    first = [next(n for n, what in enumerate(seen) if what.endswith(step)) for step in STEPS]
    assert first == sorted(first) and first[5] > max(n for n, what in enumerate(seen) if what.endswith(".json"))


def test_right_tags_are_not_set_again_and_wrong_ones_of_bootimages_are_corrected(world: World, prune: Prune) -> None:
    for image in world.images.values():
        image.tags["bootimage"] = str(image.kind == "bootimage").lower()
    wrong = world.images_of(BOOTIMAGE)[0]
    wrong.tags["bootimage"] = "false"
    run = prune()
    assert {id for call in run.calls("ecs", "Tag") for id in call.ids if id.startswith("m-")} == {wrong.id}
    assert wrong.tags["bootimage"] == "true"


@pytest.mark.parametrize("token", [GITHUB_TOKEN, None], ids=["with token", "without token"])
def test_all_pages_of_commits_are_read_with_a_token_and_without(world: World, prune: Prune, token: str | None) -> None:
    for _ in range(220):
        world.add_commit(rhcos_json(BOOTIMAGE, REGIONS, world.directory))
    run = prune(env={"GITHUB_TOKEN": token})  # It checks that no other host gets the token.
    assert {image.build for image in world.listed()} == {OLD_BOOTIMAGE, BOOTIMAGE}
    assert len(run.calls("github", "/commits")) == 3
    assert len(run.calls("github", "/contents/")) == (223 if token else 0)
    assert set(run.sandbox.github.tokens) == {f"Bearer {token}" if token else ""}


def test_images_of_every_directory_tombstone_architecture_and_status_are_found(world: World, prune: Prune) -> None:
    places = ["releases/old", "releases/rhcos-4.10", "releases/rhcos-4.10-aarch64", "prod/streams/4.10/builds"]
    places += ["prod/streams/4.10-9.2/builds", "prod/streams/4.10-9.4/builds"]
    world.add_bootimage("410.84.202205190000-0", REGIONS, places[0], host=OLD_STORE_HOST)
    for number, place in enumerate(places):
        world.add_build(f"410.84.20220601000{number}-0", REGIONS, directory=place, status=STATUSES[number])
    world.add_build("410.84.202206020000-0", REGIONS, tombstone=True)
    arm = world.add_build("410.84.202206030000-0", REGIONS, arches=["aarch64", "ppc64le", "x86_64"])[0].build
    del world.metas[meta_path(arm)]["aliyun"]
    replicated = EcsImage("m-replicated", "eu-west-1", BOOTIMAGE, "bootimage")
    world.add_image(replicated)
    world.metas[meta_path(BOOTIMAGE)]["aliyun"].append({"name": replicated.region, "id": replicated.id})
    run = prune()
    assert_all_pruned(run)
    assert [image.tags for image in world.listed()] == [{"bootimage": "true"}] * 7
    assert {call.what.split("/")[-2] for call in run.calls("store", arm)} == {"aarch64", "x86_64"}


IN_USE, QUOTA, PUBLISHED = (ecs_error(403, code) for code in ("ImageUsingByInstance", "QuotaExceed", "OperationDenied"))
FAILURES: dict[str, tuple[dict[str, Any], set[str]]] = {  # and the images on record that are left
    "image in use": ({"ecs": [EcsFault("DeleteImage", id=PUBLIC, answer=IN_USE)]}, {PUBLIC}),
    "stays public": ({"ecs": [EcsFault("ModifyImageSharePermission", id=PUBLIC, answer=PUBLISHED)]}, {PUBLIC}),
    "too many tags": ({"ecs": [EcsFault("TagResources", id=PUBLIC, answer=QUOTA)]}, {PUBLIC}),
    "region that is down": ({"ecs": [EcsFault("DescribeImages", REGION, answer=LOST)]}, {PUBLIC, PRIVATE}),
    "no permission to look": ({"blind_regions": {REGION}}, {PUBLIC, PRIVATE}),
    "no permission to tag": ({"lacking": {(REGION, "TagResources")}}, {PUBLIC, PRIVATE}),
    "meta.json that is lost": ({"web": [WebFault(meta_path(PUBLIC_BUILD), Answer(403))]}, set()),
}


@pytest.mark.parametrize(("faults", "left"), FAILURES.values(), ids=FAILURES)
def test_run_goes_on_past_a_failure_and_the_next_one_finishes(prune: Prune, faults: Any, left: set[str]) -> None:
    prune.faults, prune.clock_speed = Faults(**faults), 60
    run = prune()
    assert (run.status, run.output.count("ERROR")) == (1, 2)  # It says what failed, and what to do.
    unread = {image.id for image in prune.world.images_of(PUBLIC_BUILD)} - recorded(run).keys()
    assert {id for id, deleted in recorded(run).items() if not deleted} == left
    assert {image.id for image in prune.world.listed("to be pruned")} == left | unread
    next_run_finishes(prune)


def test_without_permission_to_delete_few_images_are_made_private(world: World, prune: Prune) -> None:
    for day in range(1, 29):
        world.add_build(f"410.84.202204{day:02}0000-0", [REGION], public=True)
    prune.faults = Faults(lacking={("", "DeleteImage")}, latency={"ecs": 0.02})
    run = prune()
    assert run.status == 1
    assert len([call for call in run.calls("ecs", "Modify") if call.where == REGION]) <= main.REGION_WORKERS


def test_throttled_calls_wait_for_the_next_minute(world: World, prune: Prune) -> None:
    world.add_builds_around(45, REGIONS, datetime(2022, 2, 1))
    prune.faults.calls_a_minute, prune.clock_speed = 20, 60
    run = prune()
    assert_all_pruned(run)
    assert max(run.sandbox.ecs.calls_in_minute.values()) <= 20 + main.REGION_WORKERS


CHANGES = {"DescribeImages", "TagResources", "ModifyImageSharePermission", "DeleteImage"}
LOSSES = {
    "carried out": Faults(lose_first_answer=CHANGES, cut_first_answer={"builds.json", "meta.json"}),
    "some": Faults(3, unavailable=0.08, broken=0.02, lost_before=0.04, lost_after=0.04, damaged=0.02),
}


@pytest.mark.parametrize("faults", LOSSES.values(), ids=LOSSES)
def test_lost_answers_and_errors_of_the_servers_do_no_harm(world: World, prune: Prune, faults: Faults) -> None:
    world.add_builds_around(20, REGIONS, datetime(2022, 2, 1))
    prune.faults, prune.clock_speed = faults, 20
    assert_all_pruned(prune())


def test_image_counts_as_gone_only_if_another_one_of_the_account_is_listed(world: World, prune: Prune) -> None:
    images = world.add_build("410.84.202206010000-0", [REGION, "eu-west-1", "eu-central-1"])
    world.add_build("410.84.202206030000-0", ["eu-west-1"], "another account's", owner=OTHER_KEY_ID, public=True)
    world.add_image(EcsImage("m-other", "eu-central-1", "", "not listed", name="my-server"))
    for image in images:
        del world.images[image.id]
    run = prune()
    assert run.status == 0
    assert run.line("WARNING", images[1].id, "not listed")
    assert [recorded(run)[image.id] for image in images] == [True, False, True]


@pytest.mark.parametrize(("empty", "status"), [(1, 1), (4, 0), (5, 0)])
def test_empty_listing_is_not_taken_for_deletions(prune: Prune, empty: int, status: int) -> None:
    prune.faults.ecs, prune.clock_speed = [EcsFault("DescribeImages", REGION, calls={empty}, answer=NO_IMAGES)], 20
    run = prune()
    assert run.status == status
    assert recorded(run)[PUBLIC] is recorded(run)[PRIVATE] is (status == 0)
    assert_record_is_true(run)


def test_deletion_that_no_look_confirms_is_not_on_record(prune: Prune) -> None:
    done = Answer(200, {"RequestId": REQUEST_ID})  # but it was not carried out
    lost = EcsFault("DescribeImages", REGION, calls=range(5, sys.maxsize), answer=LOST)
    prune.faults.ecs, prune.clock_speed = [EcsFault("DeleteImage", REGION, answer=done), lost], 100
    run = prune()
    assert (run.status, recorded(run)[PUBLIC], recorded(run)[PRIVATE]) == (1, False, False)


@pytest.mark.parametrize(("lag", "status"), [(200, 0), (1000, 1)], ids=["minutes", "more than five minutes"])
def test_deletion_counts_when_the_cloud_no_longer_lists_the_image(prune: Prune, lag: float, status: int) -> None:
    prune.faults.listing_lag, prune.clock_speed = lag, 100
    run = prune()
    assert (run.status, set(recorded(run).values())) == (status, {status == 0})


@pytest.mark.parametrize("release", ["4.10", "4.11"])
def test_run_on_the_real_history_keeps_every_build_that_it_names(tmp_path: Path, release: str) -> None:
    world = history_world()
    for image in world.listed("to be pruned"):
        if image.region not in REGIONS:  # Two regions are enough.
            del world.images[image.id]
    bootimages = {image.id for image in world.listed("bootimage")}
    assert Prune(world, tmp_path)(release).status == 0
    assert {image.build[:4] for image in world.listed("to be pruned")} == {"411." if release == "4.10" else "410."}
    versions = [world.versions[commit] for commit in world.branches[f"release-{release}"]]
    named = {image.id for version in versions for image in main.find_named_images(version)}
    assert {image.id for image in world.listed() if image.tags == {"bootimage": "true"}} == named & bootimages


def test_a_hundred_images_are_looked_at_in_one_call_and_fifty_tagged(world: World, prune: Prune) -> None:
    world.add_builds_around(165, [REGION], datetime(2022, 2, 1))
    counts = Counter(call.what for call in prune().calls("ecs") if call.where == REGION)
    # For 112 images and two bootimages: the witness, two pages of the account, three looks before, and two after.
    assert (counts["DescribeImages"], counts["TagResources"], counts["DeleteImage"]) == (8, 1 + 2 * 3, 112)
