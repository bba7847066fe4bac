"""Throttled calls come again in the next minute; a region that is throttled for good is given up after a while."""

from __future__ import annotations

import pytest
from faults import HANGS, LOST, OPERATIONS, THROTTLED, Fault, Faults
from harness import REGIONS, Prune
from world import World

import main

REGION = REGIONS[0]


def test_calls_that_are_throttled_or_lost_come_again_in_the_next_minute_or_at_once(world: World, prune: Prune) -> None:
    world.add_builds_around(20, REGIONS)
    prune.faults = Faults(accidents=0.08)
    prune.faults.failing = [Fault(operation, calls={1}, late=LOST) for operation in OPERATIONS]
    prune.faults.calls_a_minute, prune.clock_speed = 10, 60
    run = prune()
    run.assert_all_pruned()
    assert max(run.sandbox.ecs.calls_in_minute.values()) <= 10 + main.REGION_THREADS


GIVEN_UP = {
    "throttled": (Fault("DeleteImage", THROTTLED, REGION), 150, "Throttling.User"),
    "throttled before any deletion": (Fault("TagResources", THROTTLED, REGION), 150, "Throttling.User"),
    "every third hangs": (Fault("DeleteImage", HANGS, REGION, calls=range(3, 9999, 3)), 250, "timed out"),
}


@pytest.mark.parametrize(("fault", "speed", "words"), GIVEN_UP.values(), ids=GIVEN_UP)
def test_region_that_answers_too_little_is_given_up(prune: Prune, fault: Fault, speed: float, words: str) -> None:
    prune.world.add_builds_around(60, [REGION], empty=1000)
    prune.world.add_build("410.84.202206070000-0", [REGION], "pinned", tags={"bootimage": "true"})
    prune.faults.failing, prune.clock_speed = [fault], speed
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": "60"})
    assert run.status == 1  # Without a limit, all would be deleted in the end.
    assert run.line("ERROR", f"{REGION}: ", " images: ", words)
    assert run.line("other images:", "1 pinned by its tag")  # What a look has settled stays so.
