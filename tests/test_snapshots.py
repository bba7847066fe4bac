"""Every run marks the snapshots behind the images that it deletes; one with --delete-snapshots sweeps them."""

from __future__ import annotations

import re
from datetime import datetime
from types import SimpleNamespace

import pytest
from faults import FORBIDDEN, LOST, NO_SNAPSHOTS, THROTTLED, Answer, Call, Fault, ecs_error
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, make_region
from world import OTHER_KEY_ID, EcsSnapshot, World

import main

REGION, OTHER_REGION = REGIONS
SWEEP, MARK = ("--delete-snapshots", "4.10"), "rhcos-aliyun-pruner"


def test_snapshot_is_marked_and_named_in_the_log_before_its_image_is_deleted(world: World, prune: Prune) -> None:
    world.add_build("410.84.202204010000-0", REGIONS, disks=3)
    unmarked: list[str] = []

    def check(call: Call) -> None:
        log = (prune.folder / "aliyun_pruner.log").read_text()
        for s in world.snapshots_of(world.images[call.ids[0]]) if call.what == "DeleteImage" else ():
            line = rf"deleting \S+ {s.image_id} .*{s.id}"
            unmarked.extend([] if s.tags == {MARK: "4.10"} and re.search(line, log) else [s.id])

    prune.faults.on_call = check
    run = prune()
    assert (run.status, unmarked, run.calls("ecs", "DeleteSnapshot")) == (0, [], [])
    assert all(s.tags == {} for s in world.snapshots.values() if s.image_id in world.kept_images())
    assert prune.assert_next_run_finishes(*SWEEP).line("snapshots found: 10 snapshots = 10 deleted")


KEPT = main.State.KEPT
NO_MARK = (KEPT, "no longer marked")
DECISIONS: dict[str, tuple[bool, bool, dict[str, dict[str, str] | None], tuple[main.State, str]]] = {
    "marked by any run": (False, True, {"s-1": {MARK: "4.10"}}, (main.State.TO_DELETE, "")),
    "behind an image of this run": (True, True, {"s-1": {}}, (main.State.TO_DELETE, "")),
    "marked for another release": (False, True, {"s-1": {MARK: "4.11"}}, NO_MARK),
    "not marked": (False, True, {"s-1": {}}, NO_MARK),
    "pinned": (True, True, {"s-1": {MARK: "4.10", "bootimage": "keep"}}, (KEPT, "pinned by its tag bootimage=keep")),
    "shown without tags": (True, True, {"s-1": None}, (KEPT, "shown without tags")),
    "not listed, with that of the witness": (True, True, {}, (main.State.GONE, "")),
    "not listed, without it": (True, False, {}, (KEPT, main.NOT_LISTED)),
}


@pytest.mark.parametrize(("is_behind", "has_witness", "seen", "decision"), DECISIONS.values(), ids=DECISIONS)
def test_snapshot_is_deleted_only_if_it_is_seen_to_be_marked_or_behind_an_image_of_this_run(
    is_behind: bool, has_witness: bool, seen: dict[str, dict[str, str] | None], decision: tuple[main.State, str]
) -> None:
    region = make_region(SimpleNamespace())
    region.witness_snapshots, region.in_use = ["s-1"] if has_witness else [], set()
    job = main.SnapshotJob(REGION, "s-1", main.Image(REGION, "m-1") if is_behind else None)
    assert region.decide_snapshot(job, seen) == decision


def test_sweep_deletes_what_is_marked_for_this_release_and_not_needed(world: World, prune: Prune) -> None:
    for id, tags in {"s-other": {MARK: "4.11"}, "s-x": {}, **{f"s-{n}": {MARK: "4.10"} for n in range(120)}}.items():
        world.snapshots[id] = EcsSnapshot(id, REGION, "", tags=dict(tags))
    (pinned, disk), (image, late) = (
        [world.snapshots[i.snapshots[0]] for i in world.images_of(build)] for build in (PUBLIC_BUILD, PRIVATE_BUILD)
    )
    pinned.tags["bootimage"], disk.disk = "true", True
    world.images_of(BOOTIMAGE)[0].snapshots.append(image.id)
    shared = EcsSnapshot("s-shared", REGION, "", OTHER_KEY_ID, tags={MARK: "4.10", "acs:ecs:sharedFrom": "1"})
    world.snapshots[shared.id] = shared
    reasons = {pinned.id: "pinned", image.id: "an image that stays is made from it", shared.id: "shared by another"}
    unasked = {*reasons}
    reasons |= {disk.id: "SnapshotCreatedDisk", late.id: "pinned"}

    def pin(call: Call) -> None:
        if (call.what, call.ids) == ("DeleteSnapshot", (late.id,)):
            late.tags["bootimage"] = "true"

    found = "snapshots found: 125 snapshots = 122 to delete + 1 an image that stays is made from it + 1 pinned"
    assert prune("--dry-run", *SWEEP).line(found, "+ 1 shared by another account")
    assert all(snapshot.listed for snapshot in world.snapshots.values())
    prune.faults.failing = [Fault("DeleteSnapshot", THROTTLED, id=late.id, calls={1})]
    prune.faults.failing += [Fault(what, calls={1}, late=LOST) for what in ("DescribeSnapshots", "DeleteSnapshot")]
    prune.faults.on_call, prune.clock_speed = pin, 60
    for _ in range(2):
        run = prune(*SWEEP)
        assert run.status == 0 and all(run.line("INFO", id, "is kept", reason) for id, reason in reasons.items())
        left = {s.id for s in world.snapshots.values() if s.listed and s.image_id not in world.kept_images()}
        assert left == {"s-other", "s-x", *reasons}
        assert unasked.isdisjoint(id for call in run.calls("ecs", "DeleteSnapshot") for id in call.ids)
    assert pinned.tags == {"bootimage": "true", MARK: "4.10"}


def test_image_whose_snapshot_cannot_be_marked_stays(world: World, prune: Prune) -> None:
    """A permission is lacking in one region; in the other, one snapshot has too many tags, and another is deleted."""
    world.add_build("410.84.202204200000-0", [REGION], disks=60)  # More than one call can mark.
    world.add_builds_around(30, REGIONS, datetime(2022, 4, 1))
    (_, full), (_, gone) = (world.images_of(build) for build in (PUBLIC_BUILD, PRIVATE_BUILD))
    there = world.add_build("410.84.202204210000-0", [OTHER_REGION])[0]
    world.snapshots[gone.snapshots[0]].deleted_at = 0.0
    prune.faults.failing = [Fault("TagResources", ecs_error(403, "QuotaExceed.Tags"), id=full.snapshots[0])]
    no_key = ecs_error(404, "InvalidAccessKeyId.NotFound")  # It does not say that the snapshot is gone.
    prune.faults.failing.append(Fault("TagResources", no_key, id=there.snapshots[0]))
    prune.faults.failing += [Fault("TagResources", FORBIDDEN, REGION, snapshot) for snapshot in world.snapshots]
    run = prune()
    assert run.status == 1
    left = [image for image in world.listed("to be pruned") if image.region == OTHER_REGION]
    assert left == [full, there] and run.line("ERROR", f"{OTHER_REGION}: 1 image ({full.id})", "QuotaExceed.Tags")
    assert run.line("ERROR", f"{REGION}: ", "ecs:TagResources: Forbidden.RAM")
    assert run.line(f"{OTHER_REGION} {gone.snapshots[0]} does not exist any more")
    assert run.calls("ecs", "DeleteImage", REGION) == []
    # All snapshots of deleted images are marked, and the others of images that stay.
    assert {world.images[s.image_id].region for s in world.snapshots.values() if s.tags} == {OTHER_REGION}
    assert sum(call.status == 403 for call in run.calls("ecs", "Tag", REGION)) <= 30


def test_more_snapshots_than_a_listing_by_tag_shows_are_swept(world: World, prune: Prune) -> None:
    """The vendor cuts a listing by tag at 1,000; and old samples of the API show no Tags where there are none."""
    for number in range(1100):
        world.snapshots[f"s-{number}"] = EcsSnapshot(f"s-{number}", REGION, "", tags={MARK: "4.10"})
    world.snapshots["s-other"] = EcsSnapshot("s-other", REGION, "")
    prune.faults.untagged_shown_without_tags = True
    assert prune(*SWEEP).line("snapshots found: 1,104 snapshots = 1,104 deleted")
    assert world.snapshots_left() == world.kept_images() | {""}


LAGS = {"for seconds": (30, 0, "snapshots found: 4 snapshots = 4 deleted")}
LAGS |= {"for minutes": (1000, 4, "snapshots found: 4 snapshots = 4 DeleteSnapshot: SnapshotCreatedImage")}


@pytest.mark.parametrize(("lag", "left", "words"), LAGS.values(), ids=LAGS)
def test_snapshot_not_yet_free_is_tried_again(world: World, prune: Prune, lag: float, left: int, words: str) -> None:
    prune.faults.snapshot_lag, prune.clock_speed = lag, 60
    prune.faults.failing = [Fault("DeleteSnapshot", calls={1}, late=LOST)]
    run = prune(*SWEEP)
    assert run.status == 0 and run.line(words)
    asked = [id for call in run.calls("ecs", "DeleteSnapshot") for id in call.ids]
    assert all(re.search(rf"deleting \S+ {id} \(behind m-", run.log) for id in asked)
    assert len(world.snapshots_left() - world.kept_images()) == left
    times = [call.at for call in run.calls("ecs", "DeleteSnapshot")]
    assert max(times) - min(times) < 200


def test_run_without_the_option_lists_no_snapshots_and_says_how_many_it_left(world: World, prune: Prune) -> None:
    world.images_of(PUBLIC_BUILD)[0].snapshots = world.images_of(PRIVATE_BUILD)[0].snapshots  # one behind two images
    assert prune("--dry-run", "4.10").line("snapshots that a run would leave, still billed", ": 3")
    run = prune()
    assert run.line("snapshots that this run marked and left, still billed (--delete-snapshots deletes them", "): 3")
    assert run.calls("ecs", "DescribeSnapshots") == []
    assert "snapshots" not in prune().output
    assert "still billed" not in prune("--dry-run", *SWEEP).output


def test_region_of_which_nothing_is_known_fails_a_sweep_only(prune: Prune) -> None:
    """All of it is on record as deleted, but snapshots may be left."""
    prune.write_record({"410.84.202201010000-0": [{"region": "eu-west-1", "image": "m-gone", "deleted": True}]})
    prune.faults.failing = [Fault("Describe", FORBIDDEN, "eu-west-1")]
    assert prune(*SWEEP).line("ERROR", "eu-west-1: what snapshots are left is unknown")
    run = prune()
    assert (run.status, run.output.count("ERROR")) == (0, 0)
    assert run.line("WARNING", "eu-west-1: what no list names is unknown")


def test_sweep_that_fails_in_a_region_is_one_error_until_a_run_finishes_it(world: World, prune: Prune) -> None:
    """Even where no image is left to delete, a run says that it was not shown what to sweep."""
    blind, hidden, down, locked, slow, refused = [*REGIONS, "eu-west-1", "me-east-1", "us-west-1", "cn-beijing"]
    words = dict.fromkeys([blind, hidden], "ecs:DescribeSnapshots") | {locked: "ecs:DeleteSnapshot"}
    words |= {down: "DescribeSnapshots", slow: "DeleteSnapshot"}
    world.add_bootimage("410.84.202208010000-0", [*words, refused])
    one = world.add_build("410.84.202206010000-0", [*words, refused])[-1].snapshots[0]
    world.add_builds_around(18, [*words, refused])
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
    left = [world.images[id] for id in world.snapshots_left() - world.kept_images()]
    assert {image.region for image in left} == {*words, refused}
    assert [image.snapshots for image in left if image.region == refused] == [[one]]
    assert len(run.calls("ecs", "Snapshot", blind) + run.calls("ecs", "Snapshot", locked)) <= 30
    prune.assert_next_run_finishes(*SWEEP)
