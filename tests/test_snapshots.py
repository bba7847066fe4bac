"""Snapshots: marked before their image is deleted, and swept after it by a run with --delete-snapshots."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from faults import FORBIDDEN, NO_SNAPSHOTS, Answer, Call, EcsFault, Faults, ecs_error
from harness import PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, assert_next_run_finishes, kept_images, snapshots_left
from world import EcsSnapshot, World, image_id

REGION = REGIONS[0]
SWEEP = ("--delete-snapshots", "4.10")
FAILING = image_id(PRIVATE_BUILD, REGION).replace("m-", "s-")
MARK, QUOTA = "rhcos-aliyun-pruner", ecs_error(403, "QuotaExceed.Tags")


def test_snapshot_is_marked_and_named_in_the_log_before_its_image_is_deleted(world: World, prune: Prune) -> None:
    world.add_build("410.84.202204010000-0", REGIONS, disks=3)
    unmarked: list[str] = []

    def check(call: Call) -> None:
        log = (prune.folder / "aliyun_pruner.log").read_text()
        for s in world.snapshots_of(world.images[call.ids[0]]) if call.what == "DeleteImage" else ():
            unmarked.extend([s.id] if s.tags != {MARK: "4.10"} or f"leaves snapshot {s.id}" not in log else [])

    prune.faults.on_call = check
    run = prune()
    assert (run.status, unmarked, run.calls("ecs", "DeleteSnapshot")) == (0, [], [])
    assert all(s.tags == {} for s in world.snapshots.values() if s.image_id in kept_images(world))


def test_sweep_deletes_all_that_runs_for_this_release_marked_and_no_more(world: World, prune: Prune) -> None:
    for id, tags in {"s-other": {MARK: "4.11"}, "s-x": {}, **{f"s-{n}": {MARK: "4.10"} for n in range(120)}}.items():
        world.snapshots[id] = EcsSnapshot(id, REGION, "", tags=dict(tags))
    prune.faults.lose_first_answer = {"DescribeSnapshots", "DeleteSnapshot"}
    run = prune(*SWEEP)
    assert run.status == 0
    assert run.line("snapshots deleted", "12")
    assert snapshots_left(world) == kept_images(world) | {""}
    left = {s.id: s.tags for s in world.snapshots.values() if s.listed and not s.image_id}
    assert left == {"s-other": {MARK: "4.11"}, "s-x": {}}


@pytest.mark.parametrize("answer", [FORBIDDEN, QUOTA], ids=["no permission", "too many tags"])
def test_mark_that_is_refused_stops_no_deletion_and_is_one_warning(world: World, prune: Prune, answer: Answer) -> None:
    failing = [image.snapshots[0] for build in (PUBLIC_BUILD, PRIVATE_BUILD) for image in world.images_of(build)]
    others = [i.snapshots[0] for i in world.add_build("410.84.202204010000-0", REGIONS)]
    prune.faults.ecs = [EcsFault("TagResources", id=id, answer=answer) for id in failing]
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert all(run.line("WARNING", region, "marked") for region in REGIONS)
    assert {id for id, s in world.snapshots.items() if s.tags} == (set(others) if answer == QUOTA else set())


FAILURES: dict[str, dict[str, Any]] = {
    "no permission to look": {"lacking": {(REGION, "DescribeSnapshots")}},
    "no permission to delete": {"lacking": {(REGION, "DeleteSnapshot")}},
    "one is refused": {"ecs": [EcsFault("DeleteSnapshot", id=FAILING, answer=ecs_error(403, "OperationDenied"))]},
}


@pytest.mark.parametrize("faults", FAILURES.values(), ids=FAILURES)
def test_snapshots_that_cannot_be_deleted_are_one_error_and_wait(world: World, prune: Prune, faults: Any) -> None:
    prune.faults = Faults(**faults)
    run = prune(*SWEEP)
    assert run.status == 1
    assert run.line("ERROR", REGION, "Snapshot")
    assert world.snapshots[FAILING].listed
    assert {world.images[id].region for id in snapshots_left(world) - kept_images(world)} == {REGION}
    assert len([call for call in run.calls("ecs", "Snapshot") if call.where == REGION]) <= 8
    assert_next_run_finishes(prune, *SWEEP)


def test_snapshots_that_are_not_shown_are_an_error_even_where_no_image_is_left(prune: Prune) -> None:
    assert prune().status == 0
    prune.faults.ecs, prune.clock_speed = [EcsFault("DescribeSnapshots", REGION, answer=NO_SNAPSHOTS)], 60
    run = prune(*SWEEP)
    assert run.status == 1 and run.line("ERROR", REGION, "ecs:DescribeSnapshots")


@pytest.mark.parametrize("after", ["TagResources", "DeleteImage", "DeleteSnapshot"])
def test_run_after_kill_9_completes_the_job_and_sweeps(world: World, prune: Prune, after: str) -> None:
    world.add_builds_around(15, REGIONS, datetime(2022, 2, 1))
    prune.faults.latency["ecs"] = 0.02
    with prune.started(*SWEEP) as started:
        started.wait_until(lambda sandbox: sum(call.what == after for call in sandbox.calls) > 3)
        started.process.kill()
    assert snapshots_left(world) - kept_images(world) or after == "TagResources"
    assert not (prune.folder / "deleted_images.json").exists()
    assert_next_run_finishes(prune, *SWEEP)
