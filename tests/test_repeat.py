"""What may be repeated is repeated: lost connections, errors of the services, throttling, slow deletions."""

import time

import pytest
from faults import Call
from harness import PUBLIC_BUILD, REGIONS, Prune
from proxy import sandbox_clock
from world import World

WORKERS = 4  # that main.py has for each region


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


def test_image_that_another_run_deletes_before_it_is_made_private_is_gone(world: World, prune: Prune) -> None:
    image = world.images_of(PUBLIC_BUILD)[0]

    def delete(call: Call) -> None:
        if call.what == "ModifyImageSharePermission" and image.id in call.ids:
            image.public, image.deleted_at = False, 0

    prune.faults.on_call = delete
    run = prune()
    assert run.status == 0
    assert all(entry["deleted"] for entry in run.record[PUBLIC_BUILD])
