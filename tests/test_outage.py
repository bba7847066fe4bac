"""An outage costs minutes, whatever the number of builds and images; the rest of the run goes on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from faults import HANGS, Answer, EcsFault
from harness import PRIVATE_BUILD, REGIONS, Prune, Run, assert_next_run_finishes
from world import World, builds_url

REGION, OTHER_REGION = REGIONS
UNAVAILABLE = Answer(503)
WEB_WORKERS = 16
REGION_WORKERS = 4
FAILURES = 5  # in a row, and a service or operation is given up
ATTEMPTS = 9  # of each call


def prune_within(prune: Prune, minutes: float, timeouts: float = 1) -> Run:
    """Run, and check that its calls are made within so many minutes by its own clock; its timeouts go faster, too."""
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": str(timeouts)})
    times = [call.at for call in run.sandbox.calls]
    assert times[-1] - times[0] < minutes * 60
    return run


# The store


@pytest.fixture
def entries_on_record(world: World, prune: Prune) -> list[dict[str, Any]]:
    """60 builds, and entries on record for images that are still to be deleted."""
    world.add_builds_around(60, [REGION], datetime(2022, 2, 1))
    entries = [
        {"region": image.region, "image": image.id, "deleted": False} for image in world.images_of(PRIVATE_BUILD)
    ]
    prune.write_record({PRIVATE_BUILD: entries})
    return entries


STORE_OUTAGES = {
    "503": (UNAVAILABLE, 60, 1, 5),
    "503 with Retry-After of a day": (Answer(503, b"", {"Retry-After": "86400"}), 300, 1, 25),
    "no answer": (HANGS, 30, 30, 5.5),
}


def test_next_run_after_an_outage_of_the_store_finishes(prune: Prune, entries_on_record: list[dict[str, Any]]) -> None:
    prune.faults.answers["/meta.json"] = UNAVAILABLE
    prune.clock_speed = 60
    assert prune().status == 1
    assert_next_run_finishes(prune)


def test_outage_of_the_store_from_the_beginning_is_refused(prune: Prune) -> None:
    prune.faults.answers["/builds.json"] = HANGS
    prune.clock_speed = 30
    run = prune_within(prune, 5, timeouts=30)
    assert run.status == 1
    assert run.line("ERROR", builds_url().partition("/art/")[0], "try again later", "nothing was changed")


# A region


DELETION_OUTAGES = {
    "503": (UNAVAILABLE, 60, 1, 6),
    "no answer": (HANGS, 40, 40, 10),
}


def test_images_that_fail_now_and_then_are_no_outage(world: World, prune: Prune) -> None:
    world.add_builds_around(60, [REGION], datetime(2022, 2, 1), empty=1000)
    failing = [image.id for image in world.listed("to be pruned") if image.region == REGION][5::10]
    prune.faults.ecs = [EcsFault("DeleteImage", id=id, answer=UNAVAILABLE) for id in failing]
    prune.clock_speed = 60
    run = prune()
    assert run.status == 1
    assert len(failing) > FAILURES
    assert "wait for the next run" not in run.output
    assert {image.id for image in world.listed("to be pruned")} == set(failing)


# GitHub
