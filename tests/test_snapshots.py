"""Every run marks the snapshots behind the images that it deletes; one with --delete-snapshots sweeps them."""

from __future__ import annotations

import time
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
SEEN = main.Seen(True, False, False, False, "", "", (), True)
RELEASE = main.Release("4.10", frozenset(), {}, {})
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
    assert next_run_finishes(prune, *SWEEP).line("snapshots found: 10 snapshots = 10 deleted")


def test_snapshot_is_deleted_only_if_it_is_seen_to_be_marked_or_behind_an_image_of_this_run(region: Any) -> None:
    seen = {f"s-{mark}": main.SeenSnapshot("", mark) for mark in ("4.10", "4.11", "", "behind")}
    ecs = SimpleNamespace(look_at_snapshots=lambda _: main.Look(seen, main.read_clocks()))
    swept = region(ecs, RELEASE, options=["--dry-run"]).sweep_batch(["s-behind"], list(seen))
    deleted = [id for id, outcome in swept.answers.items() if outcome.result is main.Result.TO_DELETE]
    assert deleted == ["s-4.10", "s-behind"]


def test_snapshot_that_is_not_listed_is_gone_only_if_the_list_shows_that_of_the_witness(region: Any) -> None:
    for witness, outcome in {
        (): main.SnapshotOutcome(main.Result.KEPT, main.NOT_LISTED),
        ("m-1",): main.SnapshotOutcome(main.Result.GONE),
    }.items():
        own = {"m-1": SEEN._replace(snapshots=("s-1",))}
        assert region(SimpleNamespace(), RELEASE, own, witness).decide_snapshot(None, True) == outcome


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

    assert prune("--dry-run", *SWEEP).line("snapshots found: 124 snapshots = 123 to delete + 1 pinned")
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
    assert len([call for call in run.calls("ecs", "Tag") if call.where == REGION and call.status == 403]) <= 6


@pytest.mark.parametrize("error", [main.OutsideError("no", "QuotaExceed.Tags"), main.DeniedError("no")])
def test_snapshots_of_a_refused_mark_are_marked_one_by_one(
    region: Any, caplog: pytest.LogCaptureFixture, error: main.OutsideError
) -> None:
    sizes: list[int] = []

    def tag(kind: str, ids: list[str], *_: str) -> None:
        sizes.append(len(ids))
        if "s-7" in ids:
            raise error

    seen = SEEN._replace(snapshots=tuple(f"s-{number}" for number in range(60)))
    look = main.Look({"m-1": seen}, main.read_clocks())
    assert region(SimpleNamespace(tag=tag), RELEASE).mark_snapshots([main.Image(REGION, "m-1")], look)
    assert sizes == [50, *[1] * 50, 10]
    assert caplog.text.count("could not be marked") == 1


def test_more_snapshots_than_a_listing_by_tag_shows_are_swept_and_each_run_counts_them(
    world: World, prune: Prune
) -> None:
    """The vendor cuts a listing by tag at 1,000; and old samples of the API show no Tags where there are none."""
    for number in range(1100):
        world.snapshots[f"s-{number}"] = EcsSnapshot(f"s-{number}", REGION, "", tags={MARK: "4.10"})
    world.snapshots["s-other"] = EcsSnapshot("s-other", REGION, "")
    prune.faults.untagged_shown_without_tags = True
    left = "snapshots marked, still billed (a run with --delete-snapshots deletes them)"
    assert prune("--dry-run", "4.10").line(left, ": 1,100")
    assert prune().line(left, ": 1,104")
    assert prune(*SWEEP).line("snapshots found: 1,104 snapshots = 1,104 deleted")
    assert snapshots_left(world) == kept_images(world) | {""}
    assert "snapshots marked" not in prune().output


def test_snapshots_that_are_not_listed_are_a_warning_in_a_run_that_only_counts_them(world: World, prune: Prune) -> None:
    """Not even throttling is waited for."""
    prune.faults.failing = [Fault("DescribeSnapshots", FORBIDDEN, REGION)]
    prune.faults.failing.append(Fault("DescribeSnapshots", THROTTLED, OTHER_REGION))
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert run.line("WARNING", REGION, "what snapshots are left is unknown: ecs:DescribeSnapshots: Forbidden.RAM")
    assert run.line("WARNING", OTHER_REGION, "what snapshots are left is unknown: DescribeSnapshots: Throttling")


def test_snapshot_that_was_marked_before_a_throttled_call_is_not_marked_again(region: Any) -> None:
    """After a refused call they are marked one by one, which can take more calls than a minute allows."""
    calls: list[str] = []

    def tag(kind: str, ids: list[str], key: str, value: str) -> None:
        if len(ids) > 1:
            raise main.OutsideError("no", "QuotaExceed.Tags")
        calls.extend(ids)
        if len(calls) in (20, 40):
            raise main.ThrottledError("wait")

    ids = tuple(f"s-{number}" for number in range(50))
    look = main.Look({"m-1": SEEN._replace(snapshots=ids)}, main.read_clocks())
    marking = region(SimpleNamespace(tag=tag), RELEASE)
    for _ in range(2):
        with pytest.raises(main.ThrottledError):
            marking.mark_snapshots([main.Image(REGION, "m-1")], look)
    assert marking.mark_snapshots([main.Image(REGION, "m-1")], look)
    assert len(calls) == 52 and set(calls) == set(ids)


def test_snapshots_are_counted_once_if_the_region_has_no_patience_left(region: Any) -> None:
    calls: list[int] = []

    def fail(page: int) -> None:
        calls.append(page)
        raise main.LostError("no answer")

    spent = main.Patience(lost_rounds=main.LOST_ROUNDS, lost_since=time.monotonic() - main.MOST_LOST)
    pruned = region(SimpleNamespace(snapshots=fail, patience=spent), RELEASE).sweep({})
    assert (calls, pruned.problems) == ([1], [])


def test_snapshots_that_slip_between_two_pages_are_swept_all_the_same(world: World, prune: Prune) -> None:
    """Another release's run deletes its own snapshots meanwhile, and all later ones move to earlier pages."""
    for number in range(400):
        release = "4.11" if number < 100 else "4.10"
        world.snapshots[f"s-{number:03}"] = EcsSnapshot(f"s-{number:03}", REGION, "", tags={MARK: release})
    world.snapshots = dict(sorted(world.snapshots.items()))
    pages = 0

    def delete_others(call: Call) -> None:
        nonlocal pages
        pages += call.what == "DescribeSnapshots" and call.where == REGION
        if pages == 2:
            for snapshot in list(world.snapshots.values()):
                if snapshot.tags == {MARK: "4.11"}:
                    snapshot.deleted_at = call.at

    prune.faults.on_call = delete_others
    run = prune(*SWEEP)
    assert run.status == 0 and run.line("snapshots found: 304 snapshots = 304 deleted")
    assert [snapshot for snapshot in world.snapshots.values() if snapshot.listed and MARK in snapshot.tags] == []


def test_dry_run_says_what_a_run_would_leave_and_what_is_left(world: World, prune: Prune) -> None:
    would, left = "snapshots that a run would leave, too, still billed", "snapshots marked, still billed"
    run = prune("--dry-run", "4.10")
    assert run.line(would, ": 4") and left not in run.output
    assert would not in prune("--dry-run", *SWEEP).output
    assert prune().line(left, ": 4")
    run = prune("--dry-run", "4.10")
    assert run.line(left, ": 4") and would not in run.output


def test_snapshots_that_failed_are_named_although_the_next_list_fails(world: World, prune: Prune) -> None:
    tried: list[str] = []
    prune.faults.on_call = lambda call: tried.append(call.where) if call.what == "DeleteSnapshot" else None
    prune.faults.failing = [
        Fault("DeleteSnapshot", FORBIDDEN, REGION),
        Fault("DescribeSnapshots", Answer(500), REGION, when=lambda ids: REGION in tried and not ids),
    ]
    prune.clock_speed = 60
    run = prune(*SWEEP)
    assert run.status == 1 and run.line("ERROR", f"{REGION}: 2 snapshots", "grant ecs:DeleteSnapshot")
    assert run.line("ERROR", f"{REGION}: what snapshots are left is unknown")
    assert run.line("snapshots found: 4 snapshots = 2 deleted + 2 failed")


def test_snapshot_shown_without_tags_is_counted_if_its_mark_was_refused(world: World, prune: Prune) -> None:
    prune.faults.untagged_shown_without_tags = True
    prune.faults.failing = [Fault("TagResources", FORBIDDEN, when=lambda ids: any(id[:2] == "s-" for id in ids))]
    assert prune("--dry-run", "4.10").line("snapshots that a run would leave, too, still billed: 4")
    assert prune().line("snapshots left without a mark, still billed (the log names them): 4")


def test_region_of_which_nothing_is_known_fails_a_sweep_only(prune: Prune) -> None:
    """All of it is on record as deleted, but snapshots may be left."""
    prune.write_record({"410.84.202201010000-0": [{"region": "eu-west-1", "image": "m-gone", "deleted": True}]})
    prune.faults.failing = [Fault("Describe", FORBIDDEN, "eu-west-1")]
    assert prune(*SWEEP).line("ERROR", "eu-west-1: what snapshots are left is unknown")
    run = prune()
    assert run.status == 0 and run.line("WARNING", "eu-west-1: nothing is known")


def test_marks_behind_images_that_stay_are_counted_apart(world: World, prune: Prune) -> None:
    prune.faults.failing = [Fault("DeleteImage", FORBIDDEN, REGION)]
    run = prune()
    assert run.line("snapshots marked, still billed", ": 2")
    assert run.line("snapshots marked, but behind images that stay: 2")


def test_sweep_that_fails_in_a_region_is_one_error_until_a_run_finishes_it(world: World, prune: Prune) -> None:
    """Even where no image is left to delete, a run says that it was not shown what to sweep."""
    blind, hidden, down, locked, slow, refused = [*REGIONS, "eu-west-1", "me-east-1", "us-west-1", "cn-beijing"]
    words = dict.fromkeys([blind, hidden], "ecs:DescribeSnapshots") | {locked: "ecs:DeleteSnapshot"}
    words |= {down: "DescribeSnapshots", slow: "DeleteSnapshot"}
    world.add_bootimage("410.84.202208010000-0", [*words, refused])
    one = world.add_build("410.84.202206010000-0", [*words, refused])[-1].snapshots[0]
    world.add_builds_around(18, [*words, refused], datetime(2022, 2, 1))
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
        # What the API refuses for good, a permission aside, is kept, in its words.
        assert run.line("INFO", one, "is kept: DeleteSnapshot: OperationDenied (HTTP status 403")
    left = [world.images[id] for id in snapshots_left(world) - kept_images(world)]
    assert {image.region for image in left} == {*words, refused}
    assert [image.snapshots for image in left if image.region == refused] == [[one]]
    assert len([call for call in run.calls("ecs", "Snapshot") if call.where in (blind, locked)]) <= 2 * 10
    next_run_finishes(prune, *SWEEP)


def test_sweep_finds_what_a_run_left_that_was_killed(world: World, prune: Prune) -> None:
    world.add_builds_around(9, REGIONS, datetime(2022, 2, 1))
    prune.faults.latency["ecs"] = 0.02
    with prune.started() as started:
        started.wait_until(lambda _: len(snapshots_left(world) - kept_images(world)) > 3)
        started.process.kill()
    assert world.listed("to be pruned")
    next_run_finishes(prune, *SWEEP)
