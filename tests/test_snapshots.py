"""Every run marks the snapshots behind the images that it deletes; one with --delete-snapshots sweeps them."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from faults import FORBIDDEN, LOST, NO_SNAPSHOTS, THROTTLED, Answer, Call, Fault, ecs_error
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, kept_images, snapshots_left
from harness import assert_next_run_finishes as next_run_finishes
from world import EcsSnapshot, World

import main

REGION, OTHER_REGION = REGIONS
SEEN, RELEASE = main.Seen(True, False, False, False, "", "", ()), main.Release("4.10", frozenset(), {}, {})
SWEEP, MARK = ("--delete-snapshots", "4.10"), "rhcos-aliyun-pruner"


def test_snapshot_is_marked_and_named_in_the_log_before_its_image_is_deleted(world: World, prune: Prune) -> None:
    world.add_build("410.84.202204010000-0", REGIONS, disks=3)
    unmarked: list[str] = []

    def check(call: Call) -> None:
        log = (prune.folder / "aliyun_pruner.log").read_text()
        for s in world.snapshots_of(world.images[call.ids[0]]) if call.what == "DeleteImage" else ():
            unmarked.extend([s.id] if s.tags != {MARK: "4.10"} or f"has snapshot {s.id}" not in log else [])

    prune.faults.on_call = check
    run = prune()
    assert (run.status, unmarked, run.calls("ecs", "DeleteSnapshot")) == (0, [], [])
    assert all(s.tags == {} for s in world.snapshots.values() if s.image_id in kept_images(world))
    assert next_run_finishes(prune, *SWEEP).line("snapshots deleted: 10")


def test_snapshot_is_deleted_only_if_it_is_seen_to_be_marked_or_behind_an_image_of_this_run(region: Any) -> None:
    seen = {f"s-{mark}": SEEN._replace(mark=mark) for mark in ("4.10", "4.11", "", "behind")}
    region.ecs = SimpleNamespace(look_at_snapshots=lambda _: main.Look(seen, main.read_clocks()))
    region.release = RELEASE
    outcomes: main.Outcomes = {}
    region.sweep_batch([main.Snapshot(REGION, "s-behind")], [main.Snapshot(REGION, id) for id in seen], outcomes)
    deleted = [snapshot.id for snapshot, outcome in outcomes.items() if outcome.result is main.Result.TO_DELETE]
    assert deleted == ["s-4.10", "s-behind"]
    unfiltered: Any = SimpleNamespace(list_all=lambda *_, **__: seen)
    assert main.Ecs.marked_snapshots(unfiltered, "4.10") == ["s-4.10"]


def test_sweep_deletes_what_is_marked_for_this_release_and_not_needed(world: World, prune: Prune) -> None:
    for id, tags in {"s-other": {MARK: "4.11"}, "s-x": {}, **{f"s-{n}": {MARK: "4.10"} for n in range(120)}}.items():
        world.snapshots[id] = EcsSnapshot(id, REGION, "", tags=dict(tags))
    (pinned, disk), (image, late) = (
        [world.snapshots[i.snapshots[0]] for i in world.images_of(build)] for build in (PUBLIC_BUILD, PRIVATE_BUILD)
    )
    pinned.tags["bootimage"], disk.disk = "true", True
    world.images_of(BOOTIMAGE)[0].snapshots.append(image.id)
    reasons = {pinned.id: "pinned", disk.id: "SnapshotCreatedDisk", image.id: "SnapshotCreatedImage", late.id: "pinned"}

    def pin(call: Call) -> None:
        if (call.what, call.ids) == ("DeleteSnapshot", (late.id,)):
            late.tags["bootimage"] = "true"

    assert prune("--dry-run", *SWEEP).line("snapshots to delete: 123")
    assert all(snapshot.listed for snapshot in world.snapshots.values())
    prune.faults.failing = [Fault("DeleteSnapshot", THROTTLED, id=late.id, calls={1})]
    prune.faults.failing += [
        Fault(operation, calls={1}, late=LOST) for operation in ("DescribeSnapshots", "DeleteSnapshot")
    ]
    prune.faults.on_call, prune.clock_speed = pin, 60
    for _ in range(2):
        run = prune(*SWEEP)
        assert run.status == 0 and all(run.line(id, "is kept", reason) for id, reason in reasons.items())
        left = {s.id for s in world.snapshots.values() if s.listed and s.image_id not in kept_images(world)}
        assert left == {"s-other", "s-x", *reasons}
    assert pinned.tags == {"bootimage": "true", MARK: "4.10"}


def test_mark_that_is_refused_stops_no_deletion_and_is_one_warning(world: World, prune: Prune) -> None:
    """A permission is lacking in one region; in the other, two of four snapshots have too many tags."""
    world.add_build("410.84.202204200000-0", [REGION], disks=60)  # More than one call can mark.
    world.add_builds_around(3, REGIONS, datetime(2022, 4, 1))
    refused = {snapshot.id: FORBIDDEN for snapshot in world.snapshots.values() if snapshot.region == REGION}
    for build in (PUBLIC_BUILD, PRIVATE_BUILD):
        refused[world.images_of(build)[1].snapshots[0]] = ecs_error(403, "QuotaExceed.Tags")
    prune.faults.failing = [Fault("TagResources", answer, id=id) for id, answer in refused.items()]
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert all(run.line("WARNING", region, "marked") for region in REGIONS)
    marked = [snapshot for snapshot in world.snapshots.values() if snapshot.tags]
    assert [snapshot.region for snapshot in marked] == [OTHER_REGION] * 2
    assert len([call for call in run.calls("ecs", "Tag") if call.where == REGION and call.status == 403]) == 1


def test_snapshot_that_cannot_be_marked_is_found_by_halving(region: Any, caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []

    def tag(kind: str, ids: list[str], *_: str) -> None:
        sizes.append(len(ids))
        if "s-7" in ids:
            raise main.OutsideError("too many tags", "QuotaExceed.Tags")

    region.ecs, region.release = SimpleNamespace(tag=tag), RELEASE
    seen = SEEN._replace(snapshots=tuple(f"s-{number}" for number in range(40)))
    assert region.mark_snapshots([main.Image(REGION, "m-1")], main.Look({"m-1": seen}, main.read_clocks()))
    assert sizes == [40, 20, 20, 10, 10, 5, 5, 2, 2, 1, 1, 1]
    assert caplog.text.count("could not be marked") == 1


def test_sweep_that_fails_in_a_region_is_one_error_until_a_run_finishes_it(world: World, prune: Prune) -> None:
    """Even where no image is left to delete, a run says that it was not shown what to sweep."""
    blind, hidden, down, locked, slow, refused = [*REGIONS, "eu-west-1", "me-east-1", "us-west-1", "cn-beijing"]
    words = dict.fromkeys([blind, hidden], "ecs:DescribeSnapshots") | {locked: "ecs:DeleteSnapshot"}
    words |= {down: "DescribeSnapshots", slow: "DeleteSnapshot", refused: "OperationDenied"}
    world.add_bootimage("410.84.202208010000-0", list(words))
    one = world.add_build("410.84.202206010000-0", words)[-1].snapshots[0]
    world.add_builds_around(18, list(words), datetime(2022, 2, 1))
    prune.faults.failing = [
        Fault("DescribeSnapshots", FORBIDDEN, blind),
        Fault("DeleteSnapshot", FORBIDDEN, locked),
        Fault("DescribeSnapshots", NO_SNAPSHOTS, hidden),
        Fault("DescribeSnapshots", Answer(500), down),
        Fault("DeleteSnapshot", Answer(500), slow),
        Fault("DeleteSnapshot", ecs_error(403, "OperationDenied"), refused, one),
    ]
    prune.clock_speed = 60
    for _ in range(2):
        run = prune(*SWEEP)
        assert (run.status, world.listed("to be pruned")) == (1, [])
        assert all(run.line("ERROR", region, word) for region, word in words.items())
    left = [world.images[id] for id in snapshots_left(world) - kept_images(world)]
    assert {image.region for image in left} == words.keys()
    assert [image.snapshots for image in left if image.region == refused] == [[one]]
    assert len([call for call in run.calls("ecs", "Snapshot") if call.where in (blind, locked)]) <= 12
    next_run_finishes(prune, *SWEEP)


def test_sweep_finds_what_a_run_left_that_was_killed(world: World, prune: Prune) -> None:
    world.add_builds_around(9, REGIONS, datetime(2022, 2, 1))
    prune.faults.latency["ecs"] = 0.02
    with prune.started() as started:
        started.wait_until(lambda _: len(snapshots_left(world) - kept_images(world)) > 3)
        started.process.kill()
    assert world.listed("to be pruned")
    next_run_finishes(prune, *SWEEP)
