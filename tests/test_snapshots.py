"""Snapshots: they stay unless --delete-snapshots is given; then they are marked before, and swept after the images."""

from __future__ import annotations

import re
import subprocess
from datetime import datetime

import pytest
from faults import THROTTLED, Answer, Call, EcsFault, Refused
from harness import (
    MAIN,
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
SED = re.search(r"^sed .*$", (MAIN.parent / "README.md").read_text(), re.MULTILINE)


def test_without_the_option_no_call_concerns_a_snapshot(world: World, prune: Prune) -> None:
    run = prune()
    assert snapshots_left(world) == set(world.images)
    assert run.calls("ecs", "Snapshot") == []
    assert not any(snapshot.tags for snapshot in world.snapshots.values())


def test_snapshots_behind_deleted_images_are_deleted_and_no_others(world: World, prune: Prune) -> None:
    world.add_build("410.84.202204010000-0", ["us-east-1"], disks=3)
    run = prune(*ARGS)
    assert run.status == 0
    assert snapshots_left(world) == kept_images(world)
    assert run.line("INFO    snapshots deleted: 7")
    assert run.line("us-east-1: 3 deleted, 5 snapshots deleted, 0 failed, ")
    assert "still billed" not in run.output
    assert len(run.calls("ecs", "DeleteSnapshot")) == 7


def test_snapshots_are_marked_before_their_image_is_deleted(world: World, prune: Prune) -> None:
    unmarked: list[EcsSnapshot] = []

    def check(call: Call) -> None:
        if call.what == "DeleteImage":
            behind = world.snapshots_of(world.images[call.ids[0]])
            unmarked.extend(snapshot for snapshot in behind if snapshot.tags != {"bootimage": "false"})

    prune.faults.on_call = check
    assert prune(*ARGS).status == 0
    assert unmarked == []


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


def test_snapshot_behind_an_image_that_stays_is_kept_without_a_failure(world: World, prune: Prune) -> None:
    snapshot = world.snapshots_of(world.images_of(PRIVATE_BUILD)[0])[0]
    prune.faults.ecs.append(
        EcsFault("DeleteSnapshot", id=snapshot.id, answer=Refused(403, "SnapshotCreatedImage").answer)
    )
    run = prune(*ARGS)
    assert run.status == 0
    assert run.line("snapshots kept: 1 (1 behind an image that stays)")
    assert snapshot.listed


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


def test_image_stays_if_its_snapshot_cannot_be_marked(world: World, prune: Prune) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    prune.faults.refusals["TagResources", image.snapshots[0]] = Refused(403, "QuotaExceed.TagsPerResource")
    run = prune(*ARGS)
    assert run.status == 1
    assert image.listed
    assert run.line("ERROR", image.id, "QuotaExceed")
    assert_next_run_finishes(prune, *ARGS)


@pytest.mark.parametrize("operation", ["DescribeSnapshots", "DeleteSnapshot"])
def test_permission_that_is_lacking_is_named_once_per_region(world: World, prune: Prune, operation: str) -> None:
    prune.faults.lacking.add(("us-east-1", operation))
    run = prune(*ARGS)
    assert run.status == 1
    assert run.line("ERROR", "us-east-1: ", "wait for the next run", f"ecs:{operation}", "Forbidden.RAM")
    assert not {i for i in snapshots_left(world) - kept_images(world) if world.images[i].region != "us-east-1"}
    assert len([call for call in run.calls("ecs", operation) if call.where == "us-east-1"]) <= 4
    assert_next_run_finishes(prune, *ARGS)


def test_marked_snapshots_that_are_not_listed_are_deleted_by_their_ids(world: World, prune: Prune) -> None:
    hidden = {id for image in world.images_of(PRIVATE_BUILD) for id in image.snapshots}
    prune.faults.ecs.append(EcsFault("DescribeSnapshots", hidden=hidden))
    prune.clock_speed = 20
    assert prune(*ARGS).status == 0
    assert snapshots_left(world) == kept_images(world)


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


def test_snapshot_whose_mark_somebody_removed_is_kept(world: World, prune: Prune) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    kept = world.snapshots_of(image)[0]
    looks = []

    def remove_mark(call: Call) -> None:
        if call.what == "DescribeSnapshots" and kept.id in call.ids:
            looks.append(call)
            kept.tags.clear()

    prune.faults.on_call = remove_mark
    run = prune(*ARGS)
    assert run.status == 0
    assert looks
    assert kept.listed
    assert run.line("snapshots kept: 1 (1 no longer tagged bootimage=false)")


def test_image_that_is_gone_when_it_is_tagged_loses_no_snapshot(world: World, prune: Prune) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]

    def delete_before_it_is_tagged(call: Call) -> None:
        if call.what == "TagResources" and image.id in call.ids and image.listed:
            image.tags["bootimage"], image.deleted_at = "false", call.at

    prune.faults.on_call = delete_before_it_is_tagged
    run = prune(*ARGS)
    assert run.status == 0
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


def test_operation_on_snapshots_that_stays_throttled_is_given_up(world: World, prune: Prune) -> None:
    prune.faults.ecs.append(EcsFault("DeleteSnapshot", answer=THROTTLED))
    prune.clock_speed = 600
    run = prune(*ARGS)
    assert run.status == 1
    assert run.line("ERROR", "us-east-1: 2 snapshots wait", "throttled for 15 minutes")
    assert {image.id for image in world.listed("to be pruned")} == set()
    assert_next_run_finishes(prune, *ARGS)


def test_dry_run_names_the_snapshots_and_changes_nothing(world: World, prune: Prune) -> None:
    run = prune("--dry-run", *ARGS)
    assert run.status == 0
    for snapshot in world.snapshots.values():
        assert snapshot.listed
        assert snapshot.tags == {}
    assert run.line("us-east-1", image_id(PUBLIC_BUILD, "us-east-1").replace("m-", "s-"), "would be deleted")
    assert run.line("snapshots to delete: 4, unless")
    assert {call.what for call in run.calls("ecs")} == {"DescribeImages", "DescribeSnapshots"}


def test_unexpected_listing_of_snapshots_leaves_the_region(world: World, prune: Prune) -> None:
    answer = Answer(200, {"RequestId": "1", "TotalCount": "many", "Snapshots": []})
    prune.faults.ecs.append(EcsFault("DescribeSnapshots", "us-east-1", answer=answer))
    run = prune(*ARGS)
    assert run.status == 1
    assert {image.region for image in world.listed("to be pruned")} == {"us-east-1"}
    assert_next_run_finishes(prune, *ARGS)


def list_snapshots(prune: Prune) -> list[str]:
    """Run the README's sed in the folder of the log."""
    assert SED
    return subprocess.run(
        ["bash", "-c", SED[0]], cwd=prune.folder, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_sed_of_the_readme_lists_each_snapshot_that_stays_once(world: World, prune: Prune) -> None:
    prune()
    deleted = [image for image in world.images.values() if image.state == "deleted"]
    assert list_snapshots(prune) == sorted(f"{image.region} {image.snapshots[0]}" for image in deleted)


def test_sed_of_the_readme_lists_nothing_after_a_dry_run(prune: Prune) -> None:
    prune("--dry-run", "4.10")
    assert list_snapshots(prune) == []


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


def test_image_stays_if_its_snapshot_is_not_found_when_it_is_marked(world: World, prune: Prune) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    prune.faults.ecs.append(EcsFault("TagResources", id=image.snapshots[0], hidden=image.snapshots))
    run = prune(*ARGS)
    assert run.status == 1
    assert image.listed
    assert_next_run_finishes(prune, *ARGS)


def test_empty_listing_of_snapshots_is_taken_neither_for_unmarked_nor_for_deleted_ones(
    world: World, prune: Prune
) -> None:
    empty = Answer(200, {"RequestId": "1", "TotalCount": 0, "Snapshots": {"Snapshot": []}})
    prune.faults.ecs.append(EcsFault("DescribeSnapshots", "us-east-1", calls={3}, answer=empty))
    assert prune(*ARGS).status == 0
    assert snapshots_left(world) == kept_images(world)


def test_listing_of_snapshots_without_an_end_is_given_up(world: World, prune: Prune) -> None:
    page = {"RequestId": "1", "TotalCount": 10**12, "Snapshots": {"Snapshot": [{"SnapshotId": "s-1"}]}}
    prune.faults.ecs.append(EcsFault("DescribeSnapshots", "us-east-1", answer=Answer(200, page)))
    run = prune(*ARGS)
    assert run.status == 1
    assert len(run.calls("ecs", "DescribeSnapshots")) < 20
    assert_next_run_finishes(prune, *ARGS)


def test_snapshots_that_were_marked_in_time_are_not_marked_again(world: World, prune: Prune) -> None:
    """In a slow region each round of looking, marking and deleting must get further than the last one."""
    world.add_builds_around(60, ["us-east-1"], datetime(2022, 1, 26))
    prune.faults.latency["us-east-1"] = 0.25
    prune.clock_speed = 100
    run = prune(*ARGS)
    assert run.status == 0
    assert snapshots_left(world) == kept_images(world)
