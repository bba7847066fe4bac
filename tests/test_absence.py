"""What a service does not show is not therefore gone: an image, a version of rhcos.json, the images of a build."""

from __future__ import annotations

import sys
from collections.abc import Container
from datetime import datetime

import pytest
from faults import NO_IMAGES, Answer, EcsFault
from harness import (
    BOOTIMAGE,
    OLD_BOOTIMAGE,
    PRIVATE_BUILD,
    PUBLIC_BUILD,
    REGIONS,
    Prune,
    assert_next_run_finishes,
    assert_record_is_true,
    assert_refused,
    recorded,
)
from world import (
    KEY_ID,
    OTHER_KEY_ID,
    OTHER_SECRET,
    World,
    commit_url,
    image_id,
)

REGION, OTHER_REGION = REGIONS
NEW_REGION = "eu-west-1"  # rhcos.json names no image there


# Images


ALL_LATER = sys.maxsize
EMPTY_LISTINGS: dict[str, Container[int]] = {
    "look": range(3, ALL_LATER),
    "confirmation": range(5, ALL_LATER),
}


@pytest.mark.parametrize("calls", EMPTY_LISTINGS.values(), ids=EMPTY_LISTINGS)
def test_empty_listing_is_not_taken_for_deletions(world: World, prune: Prune, calls: Container[int]) -> None:
    prune.faults.ecs = [EcsFault("DescribeImages", REGION, calls=calls, answer=NO_IMAGES)]
    prune.clock_speed = 150
    run = prune()
    assert run.status == 1
    assert "ecs:DescribeImages" in run.output
    assert not any(recorded(run)[image_id(build, REGION)] for build in (PUBLIC_BUILD, PRIVATE_BUILD))
    assert all(recorded(run)[image_id(build, OTHER_REGION)] for build in (PUBLIC_BUILD, PRIVATE_BUILD))
    assert_next_run_finishes(prune)


def test_empty_listing_in_every_region_is_refused(world: World, prune: Prune) -> None:
    prune.faults.ecs = [EcsFault("DescribeImages", answer=NO_IMAGES)]
    run = assert_refused(prune, "ecs:DescribeImages")
    assert run.calls("store") == []


def test_one_empty_listing_during_the_confirmation_does_no_harm(world: World, prune: Prune) -> None:
    prune.faults.ecs = [EcsFault("DescribeImages", REGION, calls={4}, answer=NO_IMAGES)]
    prune.clock_speed = 10
    run = prune()
    assert run.status == 0
    assert all(recorded(run).values())


def test_image_is_not_gone_if_the_listing_lacks_the_witness_too(world: World, prune: Prune) -> None:
    images = [image_id(build, REGION) for build in (OLD_BOOTIMAGE, BOOTIMAGE, PUBLIC_BUILD)]
    prune.faults.ecs = [EcsFault("DescribeImages", REGION, calls=range(2, ALL_LATER), hidden=images)]
    prune.clock_speed = 150
    run = prune()
    assert run.status == 1
    assert recorded(run)[image_id(PUBLIC_BUILD, REGION)] is False
    assert_record_is_true(run)
    assert_next_run_finishes(prune)


def test_last_images_in_a_region_without_bootimages_are_confirmed_to_be_gone(world: World, prune: Prune) -> None:
    images = [world.add_build(f"410.84.20220601000{n}-0", [NEW_REGION])[0] for n in range(3)]
    prune.clock_speed = 20
    run = prune()
    assert run.status == 0
    assert not any(image.listed for image in images)
    assert all(recorded(run)[image.id] for image in images)


def test_many_last_images_in_a_slow_region_without_bootimages_are_confirmed(world: World, prune: Prune) -> None:
    world.add_builds_around(70, [NEW_REGION], datetime(2022, 2, 1), empty=1000)
    prune.faults.latency[NEW_REGION] = 0.04
    prune.clock_speed = 30
    run = prune()
    assert run.status == 0
    assert world.listed("to be pruned") == []
    assert all(recorded(run).values())


@pytest.mark.parametrize("public", [True, False], ids=["public bootimages", "private bootimages"])
def test_key_of_another_account_that_owns_a_single_image_is_refused(world: World, prune: Prune, public: bool) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    image.owner, image.kind = OTHER_KEY_ID, "another account's"
    for bootimage in world.listed("bootimage"):
        bootimage.public = bootimage.was_public = public
    env: dict[str, str | None] = {"ALIYUN_ACCESS_KEY_ID": OTHER_KEY_ID, "ALIYUN_ACCESS_KEY_SECRET": OTHER_SECRET}
    run = assert_refused(prune, "none of the bootimages", "ALIYUN_ACCESS_KEY_ID", "ecs:DescribeImages", env=env)
    assert run.calls("store") == []
    assert {image.owner for image in world.listed()} == {KEY_ID, OTHER_KEY_ID}


# ECS answers that are none


OPERATIONS = {
    "DescribeImages": {PUBLIC_BUILD, PRIVATE_BUILD},
    "TagResources": {PUBLIC_BUILD, PRIVATE_BUILD},
    "ModifyImageSharePermission": {PUBLIC_BUILD},
    "DeleteImage": {PUBLIC_BUILD, PRIVATE_BUILD},
}


@pytest.mark.parametrize(("operation", "left"), OPERATIONS.items(), ids=OPERATIONS)
def test_unexpected_answer_with_status_200_is_no_success(
    world: World, prune: Prune, operation: str, left: set[str]
) -> None:
    prune.faults.ecs = [EcsFault(operation, REGION, answer=Answer(200, b"null"))]
    prune.clock_speed = 100
    run = prune()
    assert run.status == 1
    assert {(image.region, image.build) for image in world.listed("to be pruned")} == {
        (REGION, build) for build in left
    }
    assert {id for id, deleted in recorded(run).items() if not deleted} == {image_id(build, REGION) for build in left}
    assert_next_run_finishes(prune)


@pytest.mark.parametrize("operation", ["DescribeSnapshots", "DeleteSnapshot"])
def test_unexpected_answer_about_snapshots_is_no_success(world: World, prune: Prune, operation: str) -> None:
    prune.faults.ecs = [EcsFault(operation, REGION, answer=Answer(200, b"null"))]
    prune.clock_speed = 100
    run = prune("--delete-snapshots", "4.10")
    assert run.status == 1
    behind = [world.snapshots_of(image)[0] for image in world.images.values() if image.kind == "to be pruned"]
    assert {snapshot.region for snapshot in behind if snapshot.listed} == {REGION}


# Versions of rhcos.json


FALSE_404 = Answer(404, b"404: Not Found")


@pytest.mark.parametrize("answer", [Answer(404, {}), Answer(200, b"<html>")])
def test_404_of_a_version_is_refused_if_the_commit_cannot_be_read(world: World, prune: Prune, answer: Answer) -> None:
    commit = world.add_commit()
    prune.faults.answers[commit_url(commit)] = answer
    assert_refused(prune)
