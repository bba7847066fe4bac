"""A permission that is refused once in a region is not tried on its other images; a limit is waited for, or named."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import pytest
from faults import Answer, EcsFault, ecs_error
from harness import REGIONS, Prune, Run, assert_next_run_finishes, assert_refused, recorded
from world import EcsImage, World, commit_url, commits_url

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


@pytest.mark.parametrize("operation", CHANGES)
def test_lacking_permission_is_found_once_in_the_region(prune: Prune, images: list[EcsImage], operation: str) -> None:
    prune.faults.lacking.add((REGION, operation))
    run = prune()
    assert_region_waits(run, operation)
    assert 1 <= len([call for call in run.calls("ecs", operation) if call.where == REGION]) <= WORKERS
    left = left_in(run, REGION)
    assert len([image for image in left if image.tags]) <= BATCH
    assert len([image for image in left if image.was_public and not image.public]) <= WORKERS
    looks = Counter(id for call in run.calls("ecs", "DescribeImages") for id in call.ids)
    assert {looks[image.id] for image in left if not image.tags} == {1}  # in the plan
    assert_next_run_finishes(prune)


def test_no_image_is_touched_without_permission_to_tag(prune: Prune, images: list[EcsImage]) -> None:
    prune.faults.lacking.add((REGION, "TagResources"))
    run = prune()
    assert {call.what for call in run.calls("ecs") if call.where == REGION} == {"DescribeImages", "TagResources"}
    assert left_in(run, REGION) == images


def test_no_image_is_touched_without_permission_to_look(prune: Prune, images: list[EcsImage]) -> None:
    prune.faults.lacking.add((REGION, "DescribeImages"))
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", f"{REGION}: {len(images) + 2} images wait", "ecs:DescribeImages", "Forbidden.RAM")
    assert [call.what for call in run.calls("ecs") if call.where == REGION] == ["DescribeImages"]
    assert left_in(run, OTHER_REGION) == []
    assert_next_run_finishes(prune)


def test_permission_that_is_lacking_everywhere_is_named_once_a_region(prune: Prune) -> None:
    prune.faults.lacking.add(("", "DeleteImage"))
    run = prune()
    assert run.status == 1
    for region in REGIONS:
        assert run.line("ERROR", f"{region}: ", "images wait", "ecs:DeleteImage")
    assert run.output.count("ERROR") == len(REGIONS) + 1


@pytest.mark.parametrize("code", ["Forbidden.RAM", "InvalidSecurityToken.Expired"])
def test_permission_or_key_that_is_withdrawn_during_the_run(prune: Prune, images: list[EcsImage], code: str) -> None:
    fault = EcsFault("DeleteImage", REGION, calls=range(20, 1000), answer=ecs_error(403, code))
    prune.faults.ecs = [fault]
    run = prune()
    assert_region_waits(run, "DeleteImage", code)
    assert fault.count <= 19 + WORKERS
    private = [image for image in left_in(run, REGION) if image.was_public and not image.public]
    assert len(private) <= WORKERS


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


@pytest.mark.parametrize(
    ("of", "status", "budget"),
    [("list of commits", 403, BUDGET_LEFT), ("list of commits", 403, {}), ("commit", 429, {})],
    ids=["403, budget left", "403, budget unknown", "429, of a commit"],
)
def test_secondary_limit_of_github_is_named_with_its_retry_after(
    world: World, prune: Prune, of: str, status: int, budget: dict[str, str]
) -> None:
    url = commits_url() if of == "list of commits" else commit_url(world.add_commit())
    headers = {**budget, "Retry-After": "77"}
    prune.faults.answers[url] = Answer(status, {"message": "You have exceeded a secondary rate limit"}, headers)
    run = assert_refused(prune, "secondary rate limit", str(status), "77")
    assert "GITHUB_TOKEN" not in run.output
    assert len([call for call in run.calls("github") if call.status == status]) == 1
    assert run.calls("ecs") == []
