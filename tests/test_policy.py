"""The account guards what is pinned: the README's policy grants what a run needs, and denies what no run may do."""

from __future__ import annotations

import copy
import json
import os
import signal

import pytest
from faults import OPERATIONS, Call
from harness import PUBLIC_BUILD, REGIONS, Prune
from services import allows, read_policy
from world import PIN, EcsImage, World

REGION = REGIONS[0]
ARN = "acs:ecs:us-east-1:1234567890123456:"
IMAGE, SNAPSHOT, DISK = (ARN + id for id in ("image/m-1", "snapshot/s-1", "disk/d-1"))
TAGGED, ASKED = "acs:ResourceTag/bootimage", "acs:RequestTag/bootimage"
DECISIONS = [
    ("DescribeImages", "*", {}, True),
    ("DescribeInstances", "*", {}, False),
    ("DeleteImage", IMAGE, {TAGGED: "false"}, True),
    ("DeleteImage", IMAGE, {TAGGED: "TRUE"}, False),
    ("DeleteSnapshot", SNAPSHOT, {TAGGED: "true"}, False),
    ("DeleteSnapshot", DISK, {}, False),
    ("TagResources", DISK, {ASKED: "true"}, False),
    ("TagResources", IMAGE, {ASKED: "true", TAGGED: "true"}, True),
    ("TagResources", IMAGE, {ASKED: "false", TAGGED: "true"}, False),
    ("TagResources", IMAGE, {ASKED: "false"}, True),
    ("TagResources", SNAPSHOT, {TAGGED: "true", "acs:RequestTag/rhcos-aliyun-pruner": "4.10"}, True),
    ("ModifyImageSharePermission", IMAGE, {TAGGED: "true"}, False),
    ("StopInstance", IMAGE, {}, False),
]


def test_policy_allows_these_calls_and_no_others() -> None:
    policy = read_policy()
    for action, resource, tags, allowed in DECISIONS:
        assert allows(policy, f"ecs:{action}", resource, tags) == allowed, (action, resource, tags)


@pytest.mark.parametrize("action", OPERATIONS)
def test_action_that_the_policy_lacks_is_named_and_a_run_with_it_finishes_the_job(prune: Prune, action: str) -> None:
    policy = copy.deepcopy(read_policy())
    for statement in policy["Statement"]:
        if statement["Effect"] == "Allow":
            statement["Action"] = [each for each in statement["Action"] if each != f"ecs:{action}"]
    assert json.dumps(policy) != json.dumps(read_policy())
    prune.faults.policy = policy
    run = prune("--delete-snapshots", "4.10")
    assert run.status == 1
    assert f"ecs:{action}: Forbidden.RAM" in run.output
    prune.assert_next_run_finishes("--delete-snapshots", "4.10")


def pin(image: EcsImage) -> None:
    """As a person does. It stays as public as it is."""
    image.tags, image.was_public, image.kind = dict(PIN), image.public, "pinned"


@pytest.mark.parametrize("operation", ["TagResources", "ModifyImageSharePermission", "DeleteImage"])
def test_pin_that_arrives_with_a_call_holds_and_the_rest_is_pruned(world: World, prune: Prune, operation: str) -> None:
    world.add_builds_around(30, REGIONS, empty=1000)
    chosen = {image.id for image in world.images_of(PUBLIC_BUILD)}

    def act(call: Call) -> None:
        if call.what == operation and call.ids[0][:2] == "m-":
            for id in chosen.intersection(call.ids):
                pin(world.images[id])
                chosen.remove(id)

    prune.faults.on_call = act
    run = prune()  # It checks that nothing pinned is tagged, made private or deleted.
    assert (run.status, world.listed("to be pruned"), chosen) == (0, [], set())
    denied = [call for call in run.calls("ecs") if call.status == 403]
    # A tag is denied for a batch, and for the image alone.
    assert {call.what for call in denied} == {operation}
    assert len(denied) == len(REGIONS) * (1 + (operation == "TagResources"))
    pinned = world.listed("pinned")
    assert [image.tags for image in pinned] == [PIN] * len(REGIONS)
    # One that was pinned after it was made private is private, and the log says so.
    assert [image.public for image in pinned] == [operation != "DeleteImage"] * len(REGIONS)
    assert all((f"{i.id} ({i.build}) made private" in run.log) == (operation == "DeleteImage") for i in pinned)
    assert all(run.line("WARNING", image.id, "is kept: pinned by its tag") for image in pinned)


def test_run_suspended_between_look_and_deletion_harms_no_pin(world: World, prune: Prune) -> None:
    world.add_builds_around(30, REGIONS, empty=1000)
    suspended = False

    def is_look(call: Call) -> bool:
        """Whether it is the look at the images to be pruned of the region."""
        return call.what == "DescribeImages" and call.where == REGION and len(call.ids) > 10

    def suspend(call: Call) -> None:
        nonlocal suspended
        if is_look(call) and not suspended:
            suspended = True
            os.kill(started.process.pid, signal.SIGSTOP)
            # On a busy machine the other threads can go on for a while after the signal was sent.
            os.waitid(os.P_PID, started.process.pid, os.WSTOPPED | os.WNOWAIT)

    prune.faults.on_call = suspend
    with prune.started() as started:
        started.wait_until(lambda sandbox: any(map(is_look, sandbox.calls)))  # It is answered.
        looked_at = [image for image in world.listed("to be pruned") if image.region == REGION]
        for image in looked_at[::3]:
            pin(image)
        started.process.send_signal(signal.SIGCONT)
        run = started.finish()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert len(world.listed("pinned")) == len(looked_at[::3]) > 5
    assert "TagResources" in {call.what for call in run.calls("ecs") if call.status == 403}
