"""Snapshots: they stay unless --delete-snapshots is given; then they are marked before, and swept after the images."""

from __future__ import annotations

from datetime import datetime

import pytest
from faults import Answer, Call, EcsFault, Refused
from harness import (
    PRIVATE_BUILD,
    PUBLIC_BUILD,
    REGIONS,
    Prune,
    assert_next_run_finishes,
    kept_images,
    snapshots_left,
)
from world import EcsSnapshot, World, image_id

ARGS = ("--delete-snapshots", "4.10")


@pytest.mark.parametrize("after", ["DeleteImage", "DeleteSnapshot"])
def test_run_after_kill_9_sweeps_the_snapshots_that_were_left(world: World, prune: Prune, after: str) -> None:
    world.add_builds_around(30, REGIONS, datetime(2022, 2, 1))
    prune.faults.latency["ecs"] = 0.03
    with prune.started(*ARGS) as started:
        started.wait_until(lambda sandbox: sum(call.what == after for call in sandbox.calls) > 3)
        started.process.kill()
        started.process.wait()
    lost = snapshots_left(world) - kept_images(world)
    assert lost
    assert_next_run_finishes(prune, *ARGS)


def test_snapshot_that_is_gone_is_success(world: World, prune: Prune) -> None:
    gone = Refused(404, "InvalidSnapshotId.NotFound").answer
    prune.faults.ecs.append(EcsFault("DeleteSnapshot", calls={1}, answer=gone))
    run = prune(*ARGS)
    assert run.status == 0
    assert run.line("INFO    snapshots deleted: 4")


def test_answer_that_was_lost_after_the_snapshot_was_deleted(world: World, prune: Prune) -> None:
    prune.faults.lose_first_answer.add("DeleteSnapshot")
    assert prune(*ARGS).status == 0
    assert snapshots_left(world) == kept_images(world)


def test_other_refusal_fails_and_the_next_run_tries_again(world: World, prune: Prune) -> None:
    snapshot = world.snapshots_of(world.images_of(PRIVATE_BUILD)[0])[0]
    prune.faults.refusals["DeleteSnapshot", snapshot.id] = Refused(403, "OperationDenied")
    run = prune(*ARGS)
    assert run.status == 1
    assert run.line("ERROR", snapshot.id, "OperationDenied")
    assert snapshots_left(world) == kept_images(world) | {snapshot.image_id}
    assert_next_run_finishes(prune, *ARGS)


def test_snapshots_that_another_run_has_swept_are_gone(world: World, prune: Prune) -> None:
    def sweep(call: Call) -> None:
        for image in world.images_of(PRIVATE_BUILD):
            if call.what == "DescribeSnapshots" and not image.listed:
                world.snapshots_of(image)[0].deleted_at = call.at

    prune.faults.on_call = sweep
    prune.clock_speed = 20
    run = prune(*ARGS)
    assert run.status == 0
    assert "ERROR" not in run.output
    assert snapshots_left(world) == kept_images(world)


def test_all_pages_of_marked_snapshots_are_read(world: World, prune: Prune) -> None:
    world.add_builds_around(180, ["us-east-1"], datetime(2022, 1, 26))
    assert prune(*ARGS).status == 0
    assert snapshots_left(world) == kept_images(world)


def test_throttled_snapshots_wait_for_the_next_minute(world: World, prune: Prune) -> None:
    world.add_builds_around(90, ["us-east-1"], datetime(2022, 1, 26))
    prune.faults.calls_a_minute = 40
    prune.clock_speed = 60
    run = prune(*ARGS)
    assert run.status == 0
    assert snapshots_left(world) == kept_images(world)


def test_snapshot_is_in_the_log_before_the_image_is_deleted(world: World, prune: Prune) -> None:
    missing: list[Call] = []

    def check(call: Call) -> None:
        log = (prune.folder / "aliyun_pruner.log").read_text()
        if call.what == "DeleteImage" and world.images[call.ids[0]].snapshots[0] not in log:
            missing.append(call)

    prune.faults.on_call = check
    prune()
    assert missing == []


def test_snapshots_are_swept_in_a_region_where_no_image_is_left(world: World, prune: Prune) -> None:
    prune.clock_speed = 20
    world.add_build("410.84.202204010000-0", ["eu-west-1"])
    prune.faults.lacking.add(("eu-west-1", "DeleteSnapshot"))
    assert prune(*ARGS).status == 1
    assert snapshots_left(world) - kept_images(world)
    assert_next_run_finishes(prune, *ARGS)


def test_snapshot_behind_an_image_that_somebody_else_deleted_meanwhile_is_deleted(world: World, prune: Prune) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    looks = []

    def delete_before_the_second_look(call: Call) -> None:
        if call.what == "DescribeImages" and image.id in call.ids:
            looks.append(call)
            if len(looks) == 2:
                image.tags["bootimage"] = "false"
                image.deleted_at = 0

    prune.faults.on_call = delete_before_the_second_look
    assert prune(*ARGS).status == 0
    assert snapshots_left(world) == kept_images(world)


def test_empty_listing_of_snapshots_is_taken_neither_for_unmarked_nor_for_deleted_ones(
    world: World, prune: Prune
) -> None:
    empty = Answer(200, {"RequestId": "1", "TotalCount": 0, "Snapshots": {"Snapshot": []}})
    prune.faults.ecs.append(EcsFault("DescribeSnapshots", "us-east-1", calls={3}, answer=empty))
    assert prune(*ARGS).status == 0
    assert snapshots_left(world) == kept_images(world)


def test_listing_of_snapshots_without_an_end_is_given_up(world: World, prune: Prune) -> None:
    prune.clock_speed = 30
    page = {"RequestId": "1", "TotalCount": 10**12, "Snapshots": {"Snapshot": [{"SnapshotId": "s-1"}]}}
    prune.faults.ecs.append(EcsFault("DescribeSnapshots", "us-east-1", answer=Answer(200, page)))
    run = prune(*ARGS)
    assert run.status == 1
    assert len(run.calls("ecs", "DescribeSnapshots")) < 20
    assert_next_run_finishes(prune, *ARGS)


def test_snapshots_that_were_marked_in_time_are_not_marked_again(world: World, prune: Prune) -> None:
    """In a slow region each round of looking, marking and deleting must get further than the last one."""
    world.add_builds_around(20, ["us-east-1"], datetime(2022, 1, 26))
    prune.faults.latency["us-east-1"] = 0.25
    prune.clock_speed = 100
    run = prune(*ARGS)
    assert run.status == 0
    assert snapshots_left(world) == kept_images(world)


def test_every_run_marks_the_snapshots_with_its_release_before_it_deletes_the_image(world: World, prune: Prune) -> None:
    unmarked: list[EcsSnapshot] = []

    def check(call: Call) -> None:
        if call.what == "DeleteImage":
            behind = world.snapshots_of(world.images[call.ids[0]])
            unmarked.extend(snapshot for snapshot in behind if snapshot.tags != {"rhcos-aliyun-pruner": "4.10"})

    prune.faults.on_call = check
    assert prune().status == 0
    assert unmarked == []
    assert snapshots_left(world) == set(world.images)


def test_sweep_deletes_the_snapshots_behind_deleted_images_and_no_others(world: World, prune: Prune) -> None:
    world.add_build("410.84.202204010000-0", ["us-east-1"], disks=3)
    other = EcsSnapshot("s-other", "us-east-1", "m-other", tags={"rhcos-aliyun-pruner": "4.11"})
    world.snapshots[other.id] = other
    run = prune(*ARGS)
    assert run.status == 0
    assert snapshots_left(world) == kept_images(world) | {"m-other"}
    assert run.line("snapshots deleted: 7")
    assert "billed" not in run.output


@pytest.mark.parametrize(
    "answer", [Refused(403, "Forbidden.RAM").answer, Refused(400, "Quota").answer], ids=["denied", "refused"]
)
def test_mark_that_is_refused_is_one_warning_and_stops_no_deletion(world: World, prune: Prune, answer: Answer) -> None:
    snapshots = [s.id for s in world.snapshots.values() if s.region == "us-east-1"]
    prune.faults.ecs = [EcsFault("TagResources", id=id, answer=answer) for id in snapshots]
    run = prune()
    assert run.status == 0
    assert run.line("WARNING", "us-east-1", "mark")
    assert world.listed("to be pruned") == []
    assert all(id in run.log for id in (world.images_of(PRIVATE_BUILD)[0].snapshots))


@pytest.mark.parametrize("operation", ["DescribeSnapshots", "DeleteSnapshot"])
def test_permission_for_snapshots_that_is_lacking_is_one_line(world: World, prune: Prune, operation: str) -> None:
    prune.faults.lacking.add(("us-east-1", operation))
    prune.clock_speed = 20
    run = prune(*ARGS)
    assert run.status == 1
    assert run.line("ERROR", "us-east-1", f"ecs:{operation}")
    assert world.listed("to be pruned") == []
    assert_next_run_finishes(prune, *ARGS)


def test_dry_run_names_the_snapshots_and_changes_nothing(world: World, prune: Prune) -> None:
    run = prune("--dry-run", *ARGS)
    assert run.status == 0
    assert not any(snapshot.tags or not snapshot.listed for snapshot in world.snapshots.values())
    assert run.line(image_id(PUBLIC_BUILD, "us-east-1").replace("m-", "s-"), "would be deleted")
    assert run.line("snapshots to delete: 4")
    assert {call.what for call in run.calls("ecs")} == {"DescribeImages", "DescribeSnapshots"}
