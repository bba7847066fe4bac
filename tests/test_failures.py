"""What fails costs minutes and holds up nothing else; the rest is pruned, and the next run finishes the job."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest
from faults import FORBIDDEN, HANGS, LOST, NOT_GZIP, NOT_JSON, THROTTLED, UNAVAILABLE, Answer, Fault, ecs_error
from harness import BOOTIMAGE, PRIVATE_BUILD, REGIONS, Prune, Run, assert_next_run_finishes, assert_record_is_true
from world import BUILDS_URL, World, ecs_host, image_id, meta_path

import main
from main import Image, LostError, Result

REGION = REGIONS[0]
IN_USE, TOO_MANY_TAGS = ecs_error(403, "ImageUsingByInstance"), ecs_error(403, "QuotaExceed.Tags")
EVERY_IMAGE = ""
# In each region: what fails, for the images of which build, the answer, and what the line about it says.
FAILURES: dict[str, tuple[str, str, Answer, str]] = {
    "us-west-1": ("DeleteImage", EVERY_IMAGE, LOST, "DeleteImage"),
    "eu-west-1": ("DeleteImage", EVERY_IMAGE, HANGS, "timed out"),
    "cn-hangzhou": ("DeleteImage", EVERY_IMAGE, FORBIDDEN, "ecs:DeleteImage: Forbidden.RAM"),
    "cn-chengdu": ("TagResources", EVERY_IMAGE, FORBIDDEN, "ecs:TagResources: Forbidden.RAM"),
    "cn-beijing": ("DescribeImages", EVERY_IMAGE, FORBIDDEN, "ecs:DescribeImages: Forbidden.RAM"),
    "me-east-1": ("DescribeImages", EVERY_IMAGE, LOST, "502"),  # The proxy refuses to connect to it.
    "cn-shanghai": ("DeleteImage", PRIVATE_BUILD, IN_USE, "DeleteImage: ImageUsingByInstance"),
    "cn-shenzhen": ("DeleteImage", PRIVATE_BUILD, LOST, "DeleteImage"),
    "cn-qingdao": ("DescribeImages", PRIVATE_BUILD, UNAVAILABLE, "503"),
    "cn-nanjing": ("TagResources", PRIVATE_BUILD, TOO_MANY_TAGS, "TagResources: QuotaExceed.Tags"),
    "eu-central-1": ("TagResources", BOOTIMAGE, FORBIDDEN, "ecs:TagResources: Forbidden.RAM"),
}


def calls_in(run: Run, region: str, operation: str = "") -> int:
    return sum(call.where == region for call in run.calls("ecs", operation))


def minutes_of(run: Run, service: str) -> float:
    """From the first call to the last one, by the clock of the run."""
    times = [call.at for call in run.calls(service)]
    return (max(times) - min(times)) / 60


def test_failure_is_one_line_with_its_reason_and_costs_few_calls_and_no_other_image(tmp_path: Path) -> None:
    prune = Prune(world := World(), tmp_path)
    world.add_bootimage(BOOTIMAGE, [*FAILURES, "ap-northeast-1"])
    world.add_builds_around(4, [*FAILURES, "ap-northeast-1"], datetime(2022, 2, 1), empty=1000)
    world.add_build(PRIVATE_BUILD, [*FAILURES, "ap-northeast-1"])
    ids = {region: image_id(build, region) if build else "" for region, (_, build, _, _) in FAILURES.items()}
    prune.faults.failing = [Fault(row[0], row[2], region, ids[region]) for region, row in FAILURES.items()]
    prune.faults.dead_hosts = {ecs_host("me-east-1")}
    failing = [i for i in world.listed("to be pruned") if i.region in ids and ids[i.region] in (i.id, EVERY_IMAGE)]
    prune.clock_speed = 180
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": "60"})
    assert run.status == 1
    assert world.listed("to be pruned") == failing
    for region, (*_, words) in FAILURES.items():
        assert "Error(" not in run.line("ERROR", f"{region}: images left for the next run: ", f"{ids[region]}", words)
    assert minutes_of(run, "ecs") < 20
    # One more, if the first call was answered before the others began.
    assert calls_in(run, "cn-hangzhou", "ModifyImage") <= main.REGION_WORKERS + 1
    assert calls_in(run, "cn-hangzhou", "DeleteImage") <= main.REGION_WORKERS + 1
    assert calls_in(run, "cn-chengdu", "TagResources") <= 20
    assert_record_is_true(run)
    assert_next_run_finishes(prune)


GIVEN_UP = {
    "throttled": (Fault("DeleteImage", THROTTLED, REGION), 500, "Throttling.User"),
    "every third hangs": (Fault("DeleteImage", HANGS, REGION, calls=range(3, 9999, 3)), 250, "timed out"),
}


@pytest.mark.parametrize(("fault", "speed", "words"), GIVEN_UP.values(), ids=GIVEN_UP)
def test_region_that_answers_too_little_is_given_up(prune: Prune, fault: Fault, speed: float, words: str) -> None:
    prune.world.add_builds_around(60, [REGION], datetime(2022, 2, 1), empty=1000)
    prune.faults.failing, prune.clock_speed = [fault], speed
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": "60"})
    assert run.status == 1  # Without a limit, all would be deleted in the end.
    assert run.line("ERROR", f"{REGION}: images left for the next run: ", words)


def test_exception_that_nothing_expects_fails_its_region_only(caplog: pytest.LogCaptureFixture) -> None:
    environment = main.Environment("key ID", "secret", "", True, True)
    broken, lost = (main.Region(environment, main.parse_args(["4.10"]), name, []) for name in REGIONS)
    broken.images, lost.images = [Image(REGION, "m-1")], [Image(REGIONS[1], "m-2")]
    broken.error, lost.error = KeyError("surprise"), LostError("lost")
    seen = main.Seen(own=True, public=False, in_use=False, pinned=False, tag="", name="", snapshots=())
    broken.outcomes[broken.images[0]] = main.Outcome(Result.DELETED, "", seen)  # but no look has confirmed it
    results = main.prune_regions([broken, lost], main.Release("4.10", frozenset(), {}, {}))
    assert [outcome.result for outcome in results.values()] == [Result.FAILED] * 2
    assert "us-east-1 failed: unexpected KeyError('surprise'): please report it" in caplog.text


def test_damaged_document_is_a_lost_answer(world: World, prune: Prune) -> None:
    urls = ["/commits", "rhcos.json", BUILDS_URL, meta_path(PRIVATE_BUILD)]
    prune.faults.failing = [Fault(url, answer, calls={1}) for url in urls for answer in (NOT_GZIP, NOT_JSON, LOST)]
    prune.clock_speed = 20
    assert prune().status == 0
    assert all(fault.count for fault in prune.faults.failing)
    assert world.listed("to be pruned") == []


def test_outage_of_the_store_costs_minutes_and_what_is_on_record_is_pruned(world: World, prune: Prune) -> None:
    world.add_builds_around(30, [REGION], datetime(2022, 2, 1))
    entries = [{"region": i.region, "image": i.id, "deleted": False} for i in world.images_of(PRIVATE_BUILD)]
    prune.write_record({PRIVATE_BUILD: entries})
    prune.faults.failing = [Fault("/meta.json", HANGS)]
    prune.clock_speed = 200
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": "60"})
    assert run.status == 1
    assert minutes_of(run, "store") < 10
    assert run.record == {PRIVATE_BUILD: [{**entry, "deleted": True} for entry in entries]}
    assert all(image.tags == {"bootimage": "true"} for image in world.listed("bootimage"))
    assert_next_run_finishes(prune)


def test_process_ends_although_calls_hang(prune: Prune) -> None:
    prune.faults.failing = [Fault(BUILDS_URL, Answer(200, b"[]")), Fault("/builds.json", HANGS)]
    started = time.monotonic()
    assert prune().line("ERROR", BUILDS_URL, "nothing was changed")
    assert time.monotonic() - started < main.WEB_TIMEOUT - 5
