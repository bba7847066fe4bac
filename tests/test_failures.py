"""What fails costs minutes and holds up nothing else; the rest is pruned, and the next run finishes the job."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults import FORBIDDEN, HANGS, LOST, NOT_GZIP, NOT_JSON, REQUEST_ID, UNAVAILABLE, Answer, Fault, ecs_error
from harness import BOOTIMAGE, PRIVATE_BUILD, REGIONS, Prune, Run, make_region, make_release
from world import BUILDS_URL, World, ecs_host, image_id, meta_path

import main

REGION = REGIONS[0]
IN_USE, TOO_MANY_TAGS = ecs_error(403, "ImageUsingByInstance"), ecs_error(403, "QuotaExceed.Tags")
EVERY_IMAGE = ""
# In each region: what fails, for the images of which build, the answer, and what the line about it says.
FAILURES: dict[str, tuple[str, str, Answer, str]] = {
    "us-west-1": ("DeleteImage", EVERY_IMAGE, LOST, "DeleteImage"),
    "eu-west-1": ("DeleteImage", EVERY_IMAGE, HANGS, "timed out"),
    "cn-hangzhou": ("DeleteImage", EVERY_IMAGE, FORBIDDEN, "ecs:DeleteImage: Forbidden.RAM"),
    "cn-chengdu": ("TagResources", EVERY_IMAGE, FORBIDDEN, "ecs:TagResources: Forbidden.RAM"),
    "cn-beijing": ("DescribeImages", EVERY_IMAGE, FORBIDDEN, "ecs:DescribeImages: Forbidden.RAM"),
    "cn-hongkong": ("DescribeImages", EVERY_IMAGE, ecs_error(403, "Forbidden.RiskControl"), "Forbidden.RiskControl"),
    "me-east-1": ("DescribeImages", EVERY_IMAGE, LOST, "502"),  # The proxy refuses to connect to it.
    "cn-shanghai": ("DeleteImage", PRIVATE_BUILD, IN_USE, "DeleteImage: ImageUsingByInstance"),
    "cn-shenzhen": ("DeleteImage", PRIVATE_BUILD, LOST, "DeleteImage"),
    "cn-qingdao": ("DescribeImages", PRIVATE_BUILD, UNAVAILABLE, "503"),
    "cn-wulanchabu": ("TagResources", PRIVATE_BUILD, TOO_MANY_TAGS, "TagResources: QuotaExceed.Tags"),
    "eu-central-1": ("TagResources", BOOTIMAGE, FORBIDDEN, "ecs:TagResources: Forbidden.RAM"),
}


def minutes_of(run: Run, service: str) -> float:
    """From the first call to the last one, by the clock of the run."""
    times = [call.at for call in run.calls(service)]
    return (max(times) - min(times)) / 60


def test_failure_is_one_line_with_its_reason_and_costs_few_calls_and_no_other_image(tmp_path: Path) -> None:
    """Slow, because a region that does not answer is asked for a minute, and calls that hang are waited for."""
    prune = Prune(world := World(), tmp_path)
    world.add_bootimage(BOOTIMAGE, [*FAILURES, "ap-northeast-1"])
    world.add_builds_around(4, [*FAILURES, "ap-northeast-1"], empty=1000)
    world.add_build(PRIVATE_BUILD, [*FAILURES, "ap-northeast-1"])
    ids = {region: image_id(build, region) if build else "" for region, (_, build, _, _) in FAILURES.items()}
    prune.faults.failing = [Fault(row[0], row[2], region, ids[region]) for region, row in FAILURES.items()]
    prune.faults.dead_hosts = {ecs_host("me-east-1")}
    failing = [i for i in world.listed("to be pruned") if i.region in ids and ids[i.region] in (i.id, EVERY_IMAGE)]
    prune.clock_speed = 60
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": "60"})
    assert run.status == 1
    assert world.listed("to be pruned") == failing
    for region, (*_, words) in FAILURES.items():
        line = run.line("ERROR", f"{region}: ", " image", f"{ids[region]}", words)
        assert "Error(" not in line
        assert ("CLOSED_REGIONS" in line) == (region == "me-east-1")  # The others answer.
    assert minutes_of(run, "ecs") < 20
    assert len(run.calls("ecs", "ModifyImage", "cn-hangzhou")) <= 20
    assert len(run.calls("ecs", "DeleteImage", "cn-hangzhou")) <= 20
    assert len(run.calls("ecs", "TagResources", "cn-chengdu")) <= 2 * (20 + main.MOST_REFUSED[main.DeniedError])
    run.assert_record_is_true()
    prune.assert_next_run_finishes()


def test_exception_that_nothing_expects_fails_its_region_only(caplog: pytest.LogCaptureFixture) -> None:
    listed = {main.Image(REGION, id): True for id in ("m-1", "m-named")}
    region = make_region(SimpleNamespace(list_images={}.popitem), witness=[])
    problems = region.prune(make_release(listed=listed))
    assert {job.image.id: job.state for job in region.images} == dict.fromkeys(("m-1", "m-named"), main.State.FAILED)
    assert len(problems) == 1
    assert "us-east-1: 2 images (m-1, m-named): unexpected TypeError" in problems[0]
    assert "please report it" in caplog.text


def test_image_for_which_no_call_was_made_is_not_said_to_have_been_refused_by_one(world: World, prune: Prune) -> None:
    world.add_builds_around(60, [REGION], empty=1000)
    prune.faults.failing = [Fault("DeleteImage", FORBIDDEN, REGION)]
    run = prune()
    assert run.line("ERROR", f"{REGION}: 62 images: ecs:DeleteImage: Forbidden.RAM (", "RequestId", "grant")
    quoted = re.findall(r"(m-\S+) \S+ is left: ecs:DeleteImage: Forbidden.RAM \(.*RequestId", run.log)
    assert quoted and {*quoted} <= {call.ids[0] for call in run.calls("ecs", "DeleteImage", REGION)}


def test_outage_after_the_last_deletion_costs_minutes(world: World, prune: Prune) -> None:
    unavailable = Fault("DescribeImages", UNAVAILABLE, REGION, when=lambda _: REGION not in world.regions_to_prune())
    prune.faults.failing = [unavailable]
    prune.clock_speed = 60
    run = prune()
    assert run.status == 1 and run.line("ERROR", f"{REGION}: 2 images")
    assert minutes_of(run, "ecs") < 2.5
    assert {world.images[id].region for id, deleted in run.recorded.items() if deleted} == {REGIONS[1]}
    prune.assert_next_run_finishes()


@pytest.mark.parametrize("what", ["DescribeImages", "TagResources"])
def test_bootimage_that_cannot_be_seen_or_tagged_gives_up_no_other(world: World, prune: Prune, what: str) -> None:
    """Not even if the first look at one of them is lost."""
    bootimage = image_id(BOOTIMAGE, REGION)
    prune.faults.failing = [Fault(what, UNAVAILABLE, id=bootimage)]
    prune.faults.failing.append(Fault("DescribeImages", LOST, id=image_id(PRIVATE_BUILD, REGION), calls={1}))
    prune.clock_speed = 60
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (1, [])
    assert run.line("ERROR", f"{REGION}: 1 image ({bootimage})", "503")


@pytest.mark.parametrize(("what", "kind"), [("Tag", "image"), ("Tag", "snapshot"), ("DeleteImage", "image")])
def test_denied_calls_for_some_images_hold_up_no_other(world: World, prune: Prune, what: str, kind: str) -> None:
    """They are private, as after an earlier run that made them so; the others are public."""
    world.add_builds_around(200, [REGION], empty=1000)
    bad = [image for image in world.listed("to be pruned") if image.region == REGION][::15]
    for image in world.listed("to be pruned"):
        image.public = image not in bad
    ids = [image.id if kind == "image" else image.snapshots[0] for image in bad]
    prune.faults.failing = [Fault(what, FORBIDDEN, id=id) for id in ids]
    run = prune()
    assert run.status == 1 and run.line("ERROR", f"{REGION}: {len(bad)} images", f"ecs:{what}", "Forbidden.RAM")
    assert world.listed("to be pruned") == bad


@pytest.mark.parametrize(("answer", "others"), [(HANGS, 5), (UNAVAILABLE, 0)], ids=["hangs", "is unavailable"])
def test_image_whose_look_fails_holds_up_few_others(world: World, prune: Prune, answer: Answer, others: int) -> None:
    """One of 300. Slow, because its calls are waited for."""
    world.add_builds_around(298, [REGION], empty=1000)
    bad = image_id(PRIVATE_BUILD, REGION)
    prune.faults.failing, prune.clock_speed = [Fault("DescribeImages", answer, id=bad)], 60
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": "60"})
    assert run.status == 1 and bad in run.line("ERROR", f"{REGION}: ", "DescribeImages")
    assert len(world.listed("to be pruned")) <= 1 + others
    assert len(run.calls("ecs", "DescribeImages", REGION)) < 60
    assert sum(call.status == 0 for call in run.calls("ecs", "DescribeImages")) <= 9  # of 40 seconds


@pytest.mark.parametrize("lag", [20, 100])
def test_policy_that_protects_one_image_fails_no_deleted_one(world: World, prune: Prune, lag: float) -> None:
    world.add_builds_around(30, [REGION], empty=1000)
    bad = image_id(PRIVATE_BUILD, REGION)
    prune.faults.failing = [Fault("DeleteImage", FORBIDDEN, id=bad)]
    hiccup = Fault("DescribeImages", UNAVAILABLE, calls={1})  # the first look of the confirmation
    hiccup.when = lambda ids: len(ids) > 10 and [image.id for image in world.listed("to be pruned")] == [bad]
    prune.faults.failing.append(hiccup)
    prune.faults.listing_lag, prune.clock_speed = lag, 60
    run = prune("--delete-snapshots", "4.10")
    assert run.status == 1 and run.line("ERROR", f"{REGION}: 1 image ({bad})", "Forbidden.RAM")
    assert [image.id for image in world.listed("to be pruned")] == [bad]
    assert world.snapshots_left() == world.kept_images()
    assert [id for id, deleted in run.recorded.items() if not deleted] == [bad]


def test_deletions_whose_answers_are_lost_are_deleted_once(world: World, prune: Prune) -> None:
    world.add_builds_around(20, [REGION], empty=1000)
    prune.faults.failing = [Fault("DeleteImage", late=LOST, region=REGION)]
    run = prune()
    run.assert_all_pruned()
    deleted = [image for image in world.images.values() if not image.listed]
    assert all(len(re.findall(rf"{image.id} \S+ deleted", run.log)) == 1 for image in deleted)
    assert run.line(f"other images: {len(deleted)} images = {len(deleted)} deleted")


def test_images_that_leave_the_listing_slowly_cost_few_looks(world: World, prune: Prune) -> None:
    """Slow, because they take 80 seconds of the sandbox's clock, which a faster one would make one look of."""
    world.add_builds_around(400, [REGION], empty=1000)
    prune.faults.leaving_rate, prune.clock_speed = 5, 20
    run = prune()
    run.assert_all_pruned()
    # A look at 99 of those left, every ten seconds: 9 rounds of at most five looks.
    assert len(run.calls("ecs", "DescribeImages", REGION)) < 70


def test_images_that_stay_in_the_listing_hide_none_that_is_gone(world: World, prune: Prune) -> None:
    world.add_builds_around(240, [REGION], empty=1000)
    staying = {image.id for image in world.listed("to be pruned") if image.region == REGION and image.public}
    done = Answer(200, {"RequestId": REQUEST_ID})  # but it was not carried out
    prune.faults.failing = [Fault("DeleteImage", done, when=staying.intersection)]
    prune.faults.listing_lag, prune.clock_speed = 30, 200
    run = prune("--delete-snapshots", "4.10")
    assert run.status == 1 and run.line("ERROR", f"{REGION}: {len(staying)} images", "still listed")
    assert world.snapshots_left() == world.kept_images()
    assert {id for id, deleted in run.recorded.items() if not deleted} == staying
    deletions, looks = ([call.at for call in run.calls("ecs", what)] for what in ("DeleteImage", "DescribeImages"))
    assert max(looks) - max(deletions) > 300  # seconds


def test_damaged_document_is_a_lost_answer(world: World, prune: Prune) -> None:
    urls = ["/commits", "rhcos.json", BUILDS_URL, meta_path(PRIVATE_BUILD)]
    prune.faults.failing = [Fault(url, answer, calls={1}) for url in urls for answer in (NOT_GZIP, NOT_JSON, LOST)]
    prune.clock_speed = 20
    assert prune().status == 0
    assert all(fault.count for fault in prune.faults.failing)
    assert world.listed("to be pruned") == []


def test_outage_of_the_store_costs_minutes_and_what_is_on_record_is_pruned(world: World, prune: Prune) -> None:
    world.add_builds_around(30, [REGION])
    entries = [{"region": i.region, "image": i.id, "deleted": False} for i in world.images_of(PRIVATE_BUILD)]
    prune.write_record({PRIVATE_BUILD: entries})
    prune.faults.failing = [Fault("/meta.json", HANGS)]
    prune.clock_speed = 200
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": "60"})
    assert run.status == 1
    assert minutes_of(run, "store") < 10
    assert run.record == {PRIVATE_BUILD: [{**entry, "deleted": True} for entry in entries]}
    assert all(image.tags == {"bootimage": "true"} for image in world.listed("bootimage"))
    prune.assert_next_run_finishes()
