"""What keeps some images from being pruned: the rest is pruned, and the next run finishes the job."""

from datetime import datetime

import pytest
from faults import Answer, Faults, Refused
from harness import BOOTIMAGE, PUBLIC_BUILD, REGIONS, Prune, Run
from world import World, ecs_url, image_id, meta_url

FAILING = image_id(PUBLIC_BUILD, "us-east-1")


def assert_only_these_are_left(run: Run, *ids: str) -> None:
    """Each is named in a line of its own, unless its region waits, which is named in one line with their number."""
    world = run.sandbox.world
    assert run.status == 1
    assert {image.id for image in world.listed("to be pruned")} == set(ids)
    recorded = {entry["image"]: entry["deleted"] for entries in run.record.values() for entry in entries}
    assert {id for id, deleted in recorded.items() if not deleted} == set(ids)


def assert_region_waits(run: Run, region: str, *words: str) -> None:
    """No image of the region is touched, and one line says so."""
    left = [image.id for image in run.sandbox.world.listed("to be pruned") if image.region == region]
    assert_only_these_are_left(run, *left)
    assert run.line("ERROR", f"{region}: ", "images wait for the next run", *words)
    assert not any(f"{region} {id}" in line for id in left for line in run.output.splitlines() if "ERROR" in line)


def assert_next_run_finishes(prune: Prune) -> None:
    prune.faults = Faults()
    run = prune()
    assert run.status == 0
    assert run.sandbox.world.listed("to be pruned") == []
    assert all(entry["deleted"] for entries in run.record.values() for entry in entries)


@pytest.mark.parametrize(
    "code",
    [
        "ImageUsingByInstance",
        "ImageUseShared",
        "OperationDenied.ImageCopying",
        "ImageIsImporting",
        "ImageIsExporting",
        "ImageIsPublic",
    ],
)
def test_image_that_cannot_be_deleted(prune: Prune, code: str) -> None:
    prune.faults.refusals["DeleteImage", FAILING] = Refused(403, code, "The image is in use.")
    run = prune()
    assert_only_these_are_left(run, FAILING)
    assert run.line("ERROR", "us-east-1 " + FAILING, code, "The image is in use.")
    assert_next_run_finishes(prune)


def test_image_that_cannot_be_made_private_is_not_deleted(prune: Prune) -> None:
    prune.faults.refusals["ModifyImageSharePermission", FAILING] = Refused(403, "OperationDenied")
    run = prune()
    assert_only_these_are_left(run, FAILING)
    assert len(run.calls("ecs", "DeleteImage")) == 2 * len(REGIONS) - 1
    assert_next_run_finishes(prune)


TAG_REFUSALS = {
    "quota of tags": Refused(403, "QuotaExceed.TagsPerResource"),
    "status": Refused(403, "OperationDenied.ImageStatus"),
    "server error": Refused(500, "InternalError"),
    "unknown ID": Refused(404, "InvalidResourceId.NotFound"),
}


@pytest.mark.parametrize("position", [0, 20, 39])
@pytest.mark.parametrize("refusal", TAG_REFUSALS.values(), ids=TAG_REFUSALS)
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
    bootimage = image_id(BOOTIMAGE, "us-east-1")
    prune.faults.refusals["TagResources", bootimage] = Refused(404, "InvalidResourceId.NotFound")
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", bootimage)
    assert world.listed("to be pruned") == []
    assert_next_run_finishes(prune)


def test_region_that_drops_every_connection(prune: Prune) -> None:
    prune.faults.dead_hosts.add("ecs.us-east-1.aliyuncs.com")
    prune.clock_speed = 20
    assert_region_waits(prune(), "us-east-1", "4 images", "Tunnel connection failed")
    assert_next_run_finishes(prune)


def test_image_whose_deletion_ends_in_an_error_of_the_server_fails_alone(world: World, prune: Prune) -> None:
    for day in range(10, 30):
        world.add_build(f"410.84.202207{day}0000-0", ["us-east-1"])
    prune.faults.refusals["DeleteImage", FAILING] = Refused(500, "InternalError")
    prune.clock_speed = 20
    assert_only_these_are_left(prune(), FAILING)
    assert_next_run_finishes(prune)


def test_region_that_answers_only_errors(prune: Prune) -> None:
    prune.faults.answers[ecs_url("us-east-1")] = Answer(503, b"")
    prune.clock_speed = 20
    assert_region_waits(prune(), "us-east-1", "503")
    assert_next_run_finishes(prune)


def test_region_that_is_slow_to_answer(world: World, prune: Prune) -> None:
    prune.faults.latency["us-east-1"] = 0.5
    run = prune()
    assert run.status == 0
    assert world.listed("to be pruned") == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(403, b"<Error>"),
        Answer(404, b""),
        Answer(200, b'{"aliyun": ['),
        Answer(200, b"[1]"),
        Answer(200, {"aliyun": None}),
        Answer(200, {"aliyun": {"us-east-1": "m-1"}}),
        Answer(200, {"aliyun": ["m-1"]}),
        Answer(200, {"aliyun": [{"name": "us-east-1"}]}),
        Answer(200, {"aliyun": [{"name": "us-east-1", "id": None}]}),
        Answer(200, {"aliyun": [{"name": "us-east-1", "id": "m-1,m-2"}]}),
        Answer(200, {"aliyun": [{"name": "evil.example/?", "id": "m-1"}]}),
        Answer(200, {"aliyun": [{"name": "us-east-1", "id": FAILING}, {"name": "cn-hangzhou", "id": ""}]}),
    ],
    ids=lambda answer: f"{answer.status} {answer.body!r:.50}",
)
def test_meta_json_that_cannot_be_read(world: World, prune: Prune, answer: Answer) -> None:
    prune.faults.answers[meta_url(PUBLIC_BUILD)] = answer
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", PUBLIC_BUILD, meta_url(PUBLIC_BUILD))
    assert {image.build for image in world.listed("to be pruned")} == {PUBLIC_BUILD}
    assert PUBLIC_BUILD not in run.record
    assert_next_run_finishes(prune)


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


@pytest.mark.parametrize("answer", [b"[]", b"7", b"{}", b"<html>", b"\xff", b'{"Images": {"Image": [{}]}}'], ids=repr)
def test_region_whose_listing_has_another_shape(world: World, prune: Prune, answer: bytes) -> None:
    prune.faults.answers[ecs_url("us-east-1")] = Answer(200, answer)
    prune.clock_speed = 20
    assert_region_waits(prune(), "us-east-1")
    assert_next_run_finishes(prune)


def test_listing_that_is_not_complete_is_not_taken_for_deletions(world: World, prune: Prune) -> None:
    listing = {"RequestId": "1", "TotalCount": 4, "Images": {"Image": []}}
    prune.faults.answers[ecs_url("us-east-1")] = Answer(200, listing)
    assert_region_waits(prune(), "us-east-1", "listed 0 images of 4")
    assert_next_run_finishes(prune)


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
