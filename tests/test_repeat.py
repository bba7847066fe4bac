"""What may be repeated is repeated: lost connections, errors of the services, throttling, slow deletions."""

import time
from collections import Counter
from datetime import datetime

import pytest
from faults import THROTTLED, Answer, Call, EcsFault, Faults, Refused
from harness import PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, recorded
from proxy import sandbox_clock
from world import REGIONS as ALL_REGIONS
from world import World, builds_url, image_id

WORKERS = 4  # that main.py has for each region


@pytest.mark.parametrize("seed", [0, 3])
def test_random_faults_of_every_service(world: World, prune: Prune, seed: int) -> None:
    world.add_builds_around(60, ALL_REGIONS[:5], datetime(2022, 2, 1))
    prune.faults = Faults(seed=seed, unavailable=0.08, broken=0.02, lost_before=0.04, lost_after=0.04)
    prune.clock_speed = 10
    run = prune()
    assert run.status == 0
    assert world.listed("to be pruned") == []
    assert all(recorded(run).values())
    assert all(image.tags == {"bootimage": "true"} for image in world.listed("bootimage"))


@pytest.mark.parametrize("operation", ["TagResources", "ModifyImageSharePermission", "DeleteImage"])
def test_answer_that_was_lost_after_the_call_was_carried_out(world: World, prune: Prune, operation: str) -> None:
    prune.faults.lose_first_answer.add(operation)
    run = prune()
    assert run.status == 0
    assert world.listed("to be pruned") == []
    assert all(entry["deleted"] for entry in run.record[PUBLIC_BUILD])


def test_meta_json_that_is_cut_off_is_fetched_again(world: World, prune: Prune) -> None:
    prune.faults.cut_first_answer.add("meta.json")
    assert prune().status == 0
    assert world.listed("to be pruned") == []


def test_retry_after_of_the_store_is_honoured_up_to_a_minute(prune: Prune) -> None:
    prune.faults.answers[builds_url()] = Answer(429, b"", {"Retry-After": "3600"})
    prune.clock_speed = 200
    run = prune()
    assert run.status == 1
    times = [call.at for call in run.calls("store", "rhcos-4.10/builds.json")]
    assert len(times) == 9
    assert all(60 <= after - before < 600 for before, after in zip(times, times[1:]))


def test_retries_back_off_with_jitter_and_are_bounded(world: World, prune: Prune) -> None:
    for image in world.images_of(PRIVATE_BUILD):
        del world.images[image.id]
    prune.faults.refusals["DeleteImage", ""] = Refused(503, "ServiceUnavailable")
    prune.clock_speed = 5
    run = prune()
    times = [call.at for call in run.calls("ecs", "DeleteImage") if call.where == "us-east-1"]
    assert run.status == 1
    assert len(times) == 9
    pauses = [after - before for before, after in zip(times, times[1:])]
    assert pauses[-1] > 4 * pauses[0]
    assert len({round(pause, 1) for pause in pauses[-3:]}) > 1


def test_throttled_calls_wait_for_the_next_minute_once_for_all_workers(world: World, prune: Prune) -> None:
    for number in range(98):
        world.add_build(f"410.84.2022{number // 28 + 1:02}{number % 28 + 1:02}0000-1", REGIONS, public=number % 2 == 0)
    prune.faults.calls_a_minute = 40
    prune.clock_speed = 20
    time.sleep((60 - sandbox_clock(20)() % 60) / 20)
    run = prune()
    assert run.status == 0
    assert world.listed("to be pruned") == []
    calls_in_minute = run.sandbox.ecs.calls_in_minute
    assert max(calls_in_minute.values()) <= 40 + WORKERS
    calls = run.calls("ecs")
    assert calls[-1].at // 60 - calls[0].at // 60 == 2
    assert calls[-1].at % 60 <= 20


def test_operation_that_stays_throttled_is_given_up(world: World, prune: Prune) -> None:
    prune.faults.ecs.append(EcsFault("DeleteImage", answer=THROTTLED))
    prune.clock_speed = 600
    run = prune()
    assert run.status == 1
    assert len(world.listed("to be pruned")) == 2 * len(REGIONS)
    assert run.line("ERROR", "us-east-1: 2 images wait", "ecs:DeleteImage", "throttled for 15 minutes", "Throttling")
    times = [call.at for call in run.calls("ecs", "DeleteImage")]
    assert 14 * 60 < times[-1] - times[0] < 17 * 60


def test_deletion_counts_only_when_the_cloud_no_longer_lists_the_image(world: World, prune: Prune) -> None:
    prune.faults.listing_lag = 200
    prune.clock_speed = 60
    run = prune()
    assert run.status == 0
    assert all(entry["deleted"] for entry in run.record[PUBLIC_BUILD])
    looks = Counter(call.where for call in run.calls("ecs", "DescribeImages"))
    assert looks["us-east-1"] <= 14


def test_image_that_stays_listed_for_five_minutes_is_a_failure(world: World, prune: Prune) -> None:
    prune.faults.listing_lag = 1000
    prune.clock_speed = 60
    run = prune()
    assert run.status == 1
    assert not any(entry["deleted"] for entry in run.record[PUBLIC_BUILD])
    assert run.line("ERROR", image_id(PUBLIC_BUILD, "us-east-1"), "still lists it")
    prune.faults.listing_lag = 0
    again = prune()
    assert again.status == 0
    assert all(entry["deleted"] for entry in again.record[PUBLIC_BUILD])


def test_images_are_listed_again_in_batches_of_100(world: World, prune: Prune) -> None:
    world.add_builds_around(225, ["us-east-1"], datetime(2022, 2, 1))
    run = prune()
    assert run.status == 0
    # 152 images to delete and two bootimages: one look for the witness, two each to plan, to prune and to confirm.
    assert len([call for call in run.calls("ecs", "DescribeImages") if call.where == "us-east-1"]) == 7


def test_image_that_another_run_deletes_before_it_is_made_private_is_gone(world: World, prune: Prune) -> None:
    image = world.images_of(PUBLIC_BUILD)[0]

    def delete(call: Call) -> None:
        if call.what == "ModifyImageSharePermission" and image.id in call.ids:
            image.public, image.deleted_at = False, 0

    prune.faults.on_call = delete
    run = prune()
    assert run.status == 0
    assert all(entry["deleted"] for entry in run.record[PUBLIC_BUILD])
