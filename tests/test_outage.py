"""An outage costs minutes, whatever the number of builds and images; the rest of the run goes on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from faults import HANGS, LOST, Answer, EcsFault
from harness import PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, Run, assert_next_run_finishes, assert_refused
from world import World, builds_url, commit_url, commits_url, image_id, meta_path, meta_url

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


@pytest.mark.parametrize(("answer", "speed", "timeouts", "minutes"), STORE_OUTAGES.values(), ids=STORE_OUTAGES)
def test_outage_of_the_store(
    world: World,
    prune: Prune,
    entries_on_record: list[dict[str, Any]],
    answer: Answer,
    speed: float,
    timeouts: float,
    minutes: float,
) -> None:
    prune.faults.answers["/meta.json"] = answer
    prune.clock_speed = speed
    run = prune_within(prune, minutes, timeouts)
    assert run.status == 1
    named = [line for line in run.output.splitlines() if "is skipped" in line]
    waiting = int(run.line("ERROR", "builds wait for the next run", "rhcos.mirror.openshift.com failed").split()[1])
    assert len(named) + waiting == 64  # all builds but the one on record
    assert FAILURES <= len(named) <= WEB_WORKERS + FAILURES
    assert len(run.calls("store", "meta.json")) <= ATTEMPTS * (WEB_WORKERS + FAILURES)
    # The rest of the run goes on.
    assert not any(image.listed for image in world.images_of(PRIVATE_BUILD))
    assert run.record == {PRIVATE_BUILD: [{**entry, "deleted": True} for entry in entries_on_record]}
    assert all(image.tags == {"bootimage": "true"} for image in world.listed("bootimage"))


def test_next_run_after_an_outage_of_the_store_finishes(prune: Prune, entries_on_record: list[dict[str, Any]]) -> None:
    prune.faults.answers["/meta.json"] = UNAVAILABLE
    prune.clock_speed = 60
    assert prune().status == 1
    assert_next_run_finishes(prune)


def test_missing_documents_are_no_outage(world: World, prune: Prune, entries_on_record: list[dict[str, Any]]) -> None:
    missing = [entry["id"] for entry in world.listings[world.directory][:30]]
    for build in missing:
        del world.metas[meta_path(build)]
    run = prune()
    assert run.status == 1
    assert "wait for the next run" not in run.output
    assert run.output.count("is skipped") == len(missing)
    assert {image.build for image in world.listed("to be pruned")} <= set(missing)


def test_documents_that_fail_now_and_then_are_no_outage(
    world: World, prune: Prune, entries_on_record: list[dict[str, Any]]
) -> None:
    failing = [PUBLIC_BUILD, *(entry["id"] for entry in world.listings[world.directory][:3])]
    for build in failing:
        prune.faults.answers[meta_url(build)] = UNAVAILABLE
    prune.clock_speed = 60
    run = prune()
    assert run.status == 1
    assert "wait for the next run" not in run.output
    assert run.output.count("is skipped") == len(failing)
    assert {image.build for image in world.listed("to be pruned")} <= set(failing)


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


@pytest.mark.parametrize(("answer", "speed", "timeouts", "minutes"), DELETION_OUTAGES.values(), ids=DELETION_OUTAGES)
def test_outage_of_an_operation_in_a_region(
    world: World, prune: Prune, answer: Answer, speed: float, timeouts: float, minutes: float
) -> None:
    world.add_builds_around(60, REGIONS, datetime(2022, 2, 1), empty=1000)
    prune.faults.ecs = [EcsFault("DeleteImage", REGION, answer=answer)]
    prune.clock_speed = speed
    run = prune_within(prune, minutes, timeouts)
    assert run.status == 1
    failed = [line for line in run.output.splitlines() if line.startswith(f"ERROR   {REGION} m-")]
    waiting = int(run.line("ERROR", f"{REGION}: ", "images wait for the next run", "ecs:DeleteImage failed").split()[2])
    assert len(failed) + waiting == 62
    assert FAILURES <= len(failed) <= FAILURES + REGION_WORKERS
    assert {image.region for image in world.listed("to be pruned")} == {REGION}
    assert_next_run_finishes(prune)


@pytest.mark.parametrize(
    ("answer", "speed", "timeouts"),
    [(HANGS, 40, 40), (LOST, 60, 1)],
    ids=["no answer", "connection lost"],
)
def test_image_whose_deletion_is_never_answered_fails_alone(
    world: World, prune: Prune, answer: Answer, speed: float, timeouts: float
) -> None:
    # After a hundred images the region is looked at again.
    world.add_builds_around(120, [REGION], datetime(2022, 2, 1), empty=1000)
    failing = image_id(PRIVATE_BUILD, REGION)
    prune.faults.ecs = [EcsFault("DeleteImage", id=failing, answer=answer)]
    prune.clock_speed = speed
    run = prune_within(prune, 5, timeouts)
    assert run.status == 1
    assert run.line("ERROR", f"{REGION} {failing}", "failed")
    assert [image.id for image in world.listed("to be pruned")] == [failing]
    assert [entry["deleted"] for entry in run.record[PRIVATE_BUILD]] == [False, True]
    assert_next_run_finishes(prune)


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


@pytest.mark.parametrize("first", ["?page=1", "?page=2"], ids=["first page", "another page"])
def test_pages_of_commits_that_link_in_a_loop_are_refused(world: World, prune: Prune, first: str) -> None:
    commits = [{"sha": commit} for commit in world.branches["release-4.10"]]
    link = f'<{commits_url()}{first}>; rel="next"'
    prune.faults.answers[commits_url()] = Answer(200, commits, {"Link": link})
    run = assert_refused(prune, "the same page again", "try again later")
    assert len(run.calls("github")) == 2


def test_pages_of_a_commit_that_link_in_a_loop_are_refused(world: World, prune: Prune) -> None:
    commit = world.add_commit()
    link = f'<{commit_url(commit)}?page=1>; rel="next"'
    prune.faults.answers[commit_url(commit)] = Answer(200, {"sha": commit, "files": []}, {"Link": link})
    run = assert_refused(prune, "the same page again", "try again later")
    assert len(run.calls("github", "/commits/")) == 2


def test_region_whose_listing_takes_more_than_a_minute_is_given_up(world: World, prune: Prune) -> None:
    """No deletion may rest on it, so there is no use in asking again and again."""
    prune.faults.latency[REGION] = 1.1
    prune.clock_speed = 60  # while the timeouts are real seconds
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", f"{REGION}: ", "images wait for the next run", "took more than 60 seconds to answer")
    assert {image.region for image in world.listed("to be pruned")} == {REGION}
