"""What keeps some images from being pruned: the rest is pruned, and the next run finishes the job."""

from datetime import datetime

import pytest
from faults import Answer, Refused
from harness import (
    BOOTIMAGE,
    PUBLIC_BUILD,
    REGIONS,
    Prune,
    Run,
    assert_next_run_finishes,
    recorded,
)
from world import World, image_id, meta_url

FAILING = image_id(PUBLIC_BUILD, "us-east-1")


def assert_only_these_are_left(run: Run, *ids: str) -> None:
    """Each is named in a line of its own, unless its region waits, which is named in one line with their number."""
    world = run.sandbox.world
    assert run.status == 1
    assert {image.id for image in world.listed("to be pruned")} == set(ids)
    assert {id for id, deleted in recorded(run).items() if not deleted} == set(ids)


def assert_region_waits(run: Run, region: str, *words: str) -> None:
    """No image of the region is touched, and one line says so."""
    left = [image.id for image in run.sandbox.world.listed("to be pruned") if image.region == region]
    assert_only_these_are_left(run, *left)
    assert run.line("ERROR", f"{region}: ", "images wait for the next run", *words)
    assert not any(f"{region} {id}" in line for id in left for line in run.output.splitlines() if "ERROR" in line)


def test_image_that_cannot_be_made_private_is_not_deleted(prune: Prune) -> None:
    prune.faults.refusals["ModifyImageSharePermission", FAILING] = Refused(403, "OperationDenied")
    run = prune()
    assert_only_these_are_left(run, FAILING)
    assert len(run.calls("ecs", "DeleteImage")) == 2 * len(REGIONS) - 1
    assert_next_run_finishes(prune)


TAG_REFUSALS = {
    "quota of tags": (Refused(403, "QuotaExceed.TagsPerResource"), 0),
    "server error": (Refused(500, "InternalError"), 20),
    "unknown ID": (Refused(404, "InvalidResourceId.NotFound"), 39),
}


@pytest.mark.parametrize(("refusal", "position"), TAG_REFUSALS.values(), ids=TAG_REFUSALS)
def test_image_that_cannot_be_tagged_fails_alone(world: World, prune: Prune, refusal: Refused, position: int) -> None:
    for number in range(38):
        world.add_build(f"410.84.202207{number // 2 + 10}{number % 2:02}00-0", ["us-east-1"])
    failing = [image.id for image in world.listed("to be pruned") if image.region == "us-east-1"][position]
    prune.faults.refusals["TagResources", failing] = refusal
    prune.clock_speed = 100
    run = prune()
    assert_only_these_are_left(run, failing)
    assert run.line("ERROR", failing, refusal.args[0])
    assert_next_run_finishes(prune)


def test_bootimage_that_cannot_be_tagged(world: World, prune: Prune) -> None:
    prune.clock_speed = 20
    bootimage = image_id(BOOTIMAGE, "us-east-1")
    prune.faults.refusals["TagResources", bootimage] = Refused(404, "InvalidResourceId.NotFound")
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", bootimage)
    assert world.listed("to be pruned") == []
    assert_next_run_finishes(prune)


def test_image_whose_deletion_ends_in_an_error_of_the_server_fails_alone(world: World, prune: Prune) -> None:
    for day in range(10, 30):
        world.add_build(f"410.84.202207{day}0000-0", ["us-east-1"])
    prune.faults.refusals["DeleteImage", FAILING] = Refused(500, "InternalError")
    prune.clock_speed = 20
    assert_only_these_are_left(prune(), FAILING)
    assert_next_run_finishes(prune)


def test_region_that_is_slow_to_answer(world: World, prune: Prune) -> None:
    prune.faults.latency["us-east-1"] = 0.5
    run = prune()
    assert run.status == 0
    assert world.listed("to be pruned") == []


def test_build_is_skipped_when_only_one_of_its_meta_json_cannot_be_read(world: World, prune: Prune) -> None:
    build = "410.84.202206030000-0"
    world.add_build(build, REGIONS, arches=["x86_64", "aarch64"])
    prune.faults.answers[meta_url(build, "aarch64")] = Answer(403)
    run = prune()
    assert run.status == 1
    assert {image.build for image in world.listed("to be pruned")} == {build}
    assert build not in run.record
    assert_next_run_finishes(prune)


def test_meta_json_of_a_bootimage_that_cannot_be_read(world: World, prune: Prune) -> None:
    prune.faults.answers[meta_url(BOOTIMAGE)] = Answer(403)
    run = prune()
    assert run.status == 1
    assert all(image.tags == {"bootimage": "true"} for image in world.images_of(BOOTIMAGE))
    assert world.listed("to be pruned") == []


def test_failures_of_a_dry_run(prune: Prune) -> None:
    prune.faults.answers[meta_url(PUBLIC_BUILD)] = Answer(403)
    assert prune("--dry-run", "4.10").status == 1


def test_images_in_a_row_that_always_fail_do_not_end_every_run_at_the_same_place(world: World, prune: Prune) -> None:
    world.add_builds_around(60, ["us-east-1"], datetime(2022, 2, 1), empty=1000)
    images = sorted((i for i in world.listed("to be pruned") if i.region == "us-east-1"), key=lambda i: i.build)
    failing = {image.id for image in images[-9:]}
    for id in failing:
        prune.faults.refusals["DeleteImage", id] = Refused(500, "InternalError")
    prune.clock_speed = 60
    for _ in range(3):
        prune()
    assert {image.id for image in world.listed("to be pruned")} == failing
