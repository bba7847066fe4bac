"""A permission that is refused once in a region is not tried on its other images; a limit is waited for, or named."""

from __future__ import annotations

from datetime import datetime

import pytest
from faults import Answer, EcsFault, ecs_error
from harness import REGIONS, Prune, Run, assert_refused, recorded
from world import EcsImage, World, commits_url

REGION, OTHER_REGION = REGIONS
WORKERS = 4  # that main.py has for each region
BATCH = 99  # images that main.py looks at, tags and deletes before the next ones

CHANGES = ["TagResources", "ModifyImageSharePermission", "DeleteImage"]


@pytest.fixture
def images(world: World) -> list[EcsImage]:
    """122 images to prune in a region, every second of them public; there are two more in another region."""
    world.add_builds_around(120, [REGION], datetime(2022, 2, 1), empty=1000)
    return [image for image in world.listed("to be pruned") if image.region == REGION]


def left_in(run: Run, region: str) -> list[EcsImage]:
    return [image for image in run.sandbox.world.listed("to be pruned") if image.region == region]


def assert_region_waits(run: Run, operation: str, code: str = "Forbidden.RAM") -> None:
    """One line says what is lacking; the images of the region are on record as not deleted, the others are deleted."""
    left = left_in(run, REGION)
    untagged = [image for image in run.sandbox.world.listed("bootimage") if not image.tags]
    assert run.status == 1
    assert run.line("ERROR", f"{REGION}: {len(left) + len(untagged)} images wait", f"ecs:{operation}", code)
    assert run.output.count("ERROR") == 2  # that one, and what to do
    assert left_in(run, OTHER_REGION) == []
    assert {id for id, deleted in recorded(run).items() if not deleted} == {image.id for image in left}


def test_no_image_is_touched_without_permission_to_tag(prune: Prune, images: list[EcsImage]) -> None:
    prune.clock_speed = 20
    prune.faults.lacking.add((REGION, "TagResources"))
    run = prune()
    assert {call.what for call in run.calls("ecs") if call.where == REGION} == {"DescribeImages", "TagResources"}
    assert left_in(run, REGION) == images


# Limits


def assert_waited_for_the_next_minute(run: Run, operation: str) -> None:
    assert run.status == 0
    assert run.sandbox.world.listed("to be pruned") == []
    first, *later = [call for call in run.calls("ecs", operation) if call.where == REGION]
    assert first.status != 200
    # A call that arrives in the first seconds of a minute was perhaps sent in the one before.
    assert first.at % 60 < 10 or first.at // 60 < next(call.at for call in later if call.ids == first.ids) // 60


@pytest.mark.parametrize(("code", "status"), [("Any.Throttling.Code", 400), ("Throttling", 503)])
def test_code_that_contains_throttling_is_throttling(world: World, prune: Prune, code: str, status: int) -> None:
    prune.faults.ecs = [EcsFault("ModifyImageSharePermission", REGION, calls={1}, answer=ecs_error(status, code))]
    prune.clock_speed = 120
    assert_waited_for_the_next_minute(prune(), "ModifyImageSharePermission")


@pytest.mark.parametrize("operation", ["DescribeImages", "DeleteImage"])
def test_throttled_operation_waits_for_the_next_minute(world: World, prune: Prune, operation: str) -> None:
    prune.faults.ecs = [EcsFault(operation, REGION, calls={1}, answer=ecs_error(400, "Rejected.Throttling"))]
    prune.clock_speed = 120
    assert_waited_for_the_next_minute(prune(), operation)


BUDGET_LEFT = {"X-RateLimit-Remaining": "31", "X-RateLimit-Reset": "2000000000"}


@pytest.mark.parametrize(("status", "budget"), [(403, BUDGET_LEFT), (403, {}), (429, {})])
def test_secondary_limit_of_github_is_named_with_its_retry_after(
    prune: Prune, status: int, budget: dict[str, str]
) -> None:
    headers = {**budget, "Retry-After": "77"}
    prune.faults.answers[commits_url()] = Answer(
        status, {"message": "You have exceeded a secondary rate limit"}, headers
    )
    run = assert_refused(prune, "secondary rate limit", str(status), "77")
    assert "GITHUB_TOKEN" not in run.output
    assert len([call for call in run.calls("github") if call.status == status]) == 1
    assert run.calls("ecs") == []
