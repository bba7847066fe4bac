"""What fails costs minutes and holds up nothing else; the rest is pruned, and the next run finishes the job."""

from __future__ import annotations

from datetime import datetime

import pytest
from faults import HANGS, LOST, THROTTLED, Answer, EcsFault, Refused
from harness import (
    OLD_BOOTIMAGE,
    PRIVATE_BUILD,
    PUBLIC_BUILD,
    REGIONS,
    Prune,
    assert_next_run_finishes,
    assert_record_is_true,
    recorded,
)
from world import EcsImage, World, ecs_host, image_id, meta_url

REGION, OTHER_REGION = REGIONS
WORKERS = 4
UNAVAILABLE = Answer(503)


def regions_left(world: World) -> set[str]:
    return {image.region for image in world.listed("to be pruned")}


def assert_within(prune: Prune, minutes: float, region: str = REGION) -> None:
    """One region fails, in one line and so many minutes by the clock of the run; the others are pruned."""
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": str(prune.clock_speed)})
    times = [call.at for call in run.sandbox.calls]
    assert max(times) - min(times) < minutes * 60
    assert run.status == 1
    assert regions_left(prune.world) == {region}
    assert len([line for line in run.output.splitlines() if "ERROR" in line and region in line]) == 1
    assert_record_is_true(run)
    assert_next_run_finishes(prune)


OUTAGES = {
    "503": (UNAVAILABLE, 3),
    "connection lost": (LOST, 3),
    "no answer": (HANGS, 10),
    "throttled": (THROTTLED, 20),
}


@pytest.mark.parametrize(("answer", "minutes"), OUTAGES.values(), ids=OUTAGES)
def test_operation_that_fails_in_a_region_costs_minutes(
    world: World, prune: Prune, answer: Answer, minutes: float
) -> None:
    world.add_builds_around(60, REGIONS, datetime(2022, 2, 1), empty=1000)
    prune.faults.ecs = [EcsFault("DeleteImage", REGION, answer=answer)]
    prune.clock_speed = 400 if answer == THROTTLED else 40
    assert_within(prune, minutes)


@pytest.mark.parametrize("operation", ["DescribeImages", "TagResources", "DeleteImage"])
def test_permission_that_is_lacking_in_a_region_is_not_tried_on_every_image(
    world: World, prune: Prune, operation: str
) -> None:
    world.add_builds_around(60, REGIONS, datetime(2022, 2, 1), empty=1000)
    prune.faults.lacking.add((REGION, operation))
    prune.clock_speed = 20
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", REGION, f"ecs:{operation}", "Forbidden.RAM")
    assert regions_left(world) == {REGION}
    assert len([call for call in run.calls("ecs", operation) if call.where == REGION]) <= 20
    private = [image for image in world.listed() if image.was_public and not image.public]
    assert len(private) <= WORKERS
    assert_next_run_finishes(prune)


def test_region_that_cannot_be_reached_is_one_line_in_the_words_of_the_fact(world: World, prune: Prune) -> None:
    prune.faults.dead_hosts.add(ecs_host(REGION))
    prune.clock_speed = 20
    run = prune()
    assert run.status == 1
    assert "Error(" not in run.line("ERROR", REGION, "502")
    assert regions_left(world) == {REGION}
    assert_next_run_finishes(prune)


@pytest.mark.parametrize("code", ["ImageUsingByInstance", "OperationDenied.ImageCopying"])
def test_image_that_cannot_be_deleted_is_named_and_fails_alone(world: World, prune: Prune, code: str) -> None:
    failing = image_id(PUBLIC_BUILD, REGION)
    prune.faults.refusals["DeleteImage", failing] = Refused(403, code)
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", REGION, failing, code)
    assert [image.id for image in world.listed("to be pruned")] == [failing]
    assert recorded(run)[failing] is False
    assert_next_run_finishes(prune)


def test_image_whose_deletion_is_never_answered_fails_alone(world: World, prune: Prune) -> None:
    world.add_builds_around(120, [REGION], datetime(2022, 2, 1), empty=1000)
    failing = image_id(PRIVATE_BUILD, REGION)
    prune.faults.ecs = [EcsFault("DeleteImage", id=failing, answer=LOST)]
    prune.clock_speed = 30
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", failing)
    assert [image.id for image in world.listed("to be pruned")] == [failing]


@pytest.mark.parametrize("answer", [UNAVAILABLE, HANGS], ids=["503", "no answer"])
def test_outage_of_the_store_costs_minutes_and_the_rest_of_the_run_goes_on(
    world: World, prune: Prune, answer: Answer
) -> None:
    world.add_builds_around(60, [REGION], datetime(2022, 2, 1))
    entries = [{"region": i.region, "image": i.id, "deleted": False} for i in world.images_of(PRIVATE_BUILD)]
    prune.write_record({PRIVATE_BUILD: entries})
    prune.faults.answers["/meta.json"] = answer
    prune.clock_speed = 30
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": "30"})
    times = [call.at for call in run.sandbox.calls]
    assert max(times) - min(times) < 6 * 60
    assert run.status == 1
    assert not any(image.listed for image in world.images_of(PRIVATE_BUILD))
    assert run.record == {PRIVATE_BUILD: [{**entry, "deleted": True} for entry in entries]}
    assert all(image.tags == {"bootimage": "true"} for image in world.listed("bootimage"))
    assert_next_run_finishes(prune)


@pytest.mark.parametrize("answer", [Answer(404), Answer(200, {"buildid": "another"}), Answer(200, b"[]")], ids=str)
def test_build_that_cannot_be_read_is_skipped(world: World, prune: Prune, answer: Answer) -> None:
    prune.faults.answers[meta_url(PUBLIC_BUILD)] = answer
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", PUBLIC_BUILD)
    assert PUBLIC_BUILD not in run.record
    assert {image.build for image in world.listed("to be pruned")} == {PUBLIC_BUILD}
    assert_next_run_finishes(prune)


def test_deletion_counts_only_when_the_cloud_no_longer_lists_the_image(world: World, prune: Prune) -> None:
    prune.faults.listing_lag = 100
    prune.clock_speed = 60
    run = prune()
    assert run.status == 0
    assert all(recorded(run).values())
    assert len(run.calls("ecs", "DescribeImages")) > 10


def test_image_that_stays_listed_after_its_deletion_is_a_failure(world: World, prune: Prune) -> None:
    prune.faults.listing_lag = 10_000
    prune.clock_speed = 200
    run = prune()
    assert run.status == 1
    assert not any(recorded(run).values())
    assert run.line("ERROR", REGION, "still listed")


@pytest.mark.parametrize("rate", ["unavailable", "broken", "lost_before", "lost_after", "damaged"])
def test_every_tenth_answer_may_be_lost(world: World, prune: Prune, rate: str) -> None:
    world.add_builds_around(20, REGIONS, datetime(2022, 2, 1))
    setattr(prune.faults, rate, 0.1)
    prune.clock_speed = 20
    assert prune().status == 0
    assert world.listed("to be pruned") == []


def test_region_in_which_nobody_owns_a_bootimage_waits(world: World, prune: Prune) -> None:
    prune.faults.blind_regions.add(REGION)
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", REGION, "ecs:DescribeImages")
    assert {call.what for call in run.calls("ecs") if call.where == REGION} == {"DescribeImages"}
    assert_next_run_finishes(prune)


def test_absent_image_in_a_region_without_any_other_own_image_is_kept_and_named(world: World, prune: Prune) -> None:
    image = world.add_build("410.84.202206010000-0", ["eu-west-1"])[0]
    prune.faults.blind_regions.add("eu-west-1")
    run = prune()
    assert run.status == 0
    assert run.line("WARNING", "eu-west-1", image.id, "not listed")
    assert recorded(run)[image.id] is False
    assert_next_run_finishes(prune)


def test_absent_image_in_a_region_without_bootimages_is_gone_if_another_own_image_is_listed(
    world: World, prune: Prune
) -> None:
    gone = world.add_build("410.84.202206010000-0", ["eu-west-1"])[0]
    other = world.add_build("410.84.202206020000-0", ["eu-west-1"], "another release's", name="my-server")[0]
    world.metas.clear()
    for build in (OLD_BOOTIMAGE, "410.84.202207061638-0", PUBLIC_BUILD, PRIVATE_BUILD, "410.84.202206021115-0"):
        world.metas[meta_url(build).partition("/art/storage/")[2]] = {"buildid": build}
    path = meta_url(gone.build).partition("/art/storage/")[2]
    world.metas[path] = {"buildid": gone.build, "aliyun": [{"name": gone.region, "id": gone.id}]}
    world.metas[meta_url(other.build).partition("/art/storage/")[2]] = {"buildid": other.build}
    del world.images[gone.id]
    run = prune()
    assert run.status == 0
    assert recorded(run)[gone.id] is True


def test_exception_that_nothing_expects_fails_its_region_only(world: World, prune: Prune) -> None:
    answer = Answer(200, {"RequestId": "1", "TotalCount": 1, "Images": {"Image": [{"ImageId": 7, "Tags": 7}]}})
    prune.faults.ecs = [EcsFault("DescribeImages", REGION, calls=range(3, 10_000), answer=answer)]
    prune.clock_speed = 20
    run = prune()
    assert run.status == 1
    assert regions_left(world) == {REGION}
    assert_next_run_finishes(prune)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_deletion_that_no_look_confirms_is_not_on_record(world: World, prune: Prune, count: int) -> None:
    """DeleteImage answers 200 without effect, and after that no look is answered."""
    images = [world.add_build(f"410.84.20220601000{n}-0", ["eu-west-1"])[0] for n in range(count)]
    world.add_image(EcsImage("m-server", "eu-west-1", "", "not listed", name="my-server"))
    prune.faults.ecs = [
        EcsFault("DeleteImage", "eu-west-1", answer=Answer(200, {"RequestId": "1"})),
        EcsFault("DescribeImages", "eu-west-1", calls=range(3, 10_000), answer=UNAVAILABLE),
    ]
    prune.clock_speed = 100
    run = prune()
    assert run.status == 1
    assert all(image.listed for image in images)
    assert_record_is_true(run)
    assert run.line("ERROR", "eu-west-1", images[0].id)
