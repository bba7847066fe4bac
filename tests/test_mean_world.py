"""What the world does that nobody would think of: each row was seen, or is documented, somewhere."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import datetime

import pytest
from faults import (
    FORBIDDEN,
    HANGS,
    NO_SNAPSHOTS,
    NOT_GZIP,
    NOT_JSON,
    PASSING,
    THROTTLED,
    TOKEN_POLICY,
    Answer,
    Call,
    EcsFault,
    WebFault,
)
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, Run
from world import (
    KEY_ID,
    EcsImage,
    World,
    builds_url,
    commits_url,
    image_id,
    meta_path,
    meta_url,
    rhcos_json,
)

REGION, OTHER_REGION = REGIONS
NEW_REGION = "eu-west-1"  # rhcos.json names no image there
OTHER_DIRECTORY = "prod/streams/4.10-8.6/builds"
SWEEP = ("--delete-snapshots", "4.10")


def assert_nothing_changed(run: Run) -> None:
    assert run.status == 1
    assert {call.what for call in run.calls("ecs")} <= {"DescribeImages"}
    assert not (run.folder / "deleted_images.json").exists()


def left(world: World) -> set[str]:
    return {image.id for image in world.listed("to be pruned")}


def waited(run: Run) -> float:
    """Seconds by the clock of the run from its first call to its last one."""
    times = [call.at for call in run.sandbox.calls]
    return max(times) - min(times)


# The history is believed to be whole


@pytest.mark.parametrize("case", ["newest commit only", "second page is empty", "no commit"])
def test_history_that_is_cut_short_is_refused(world: World, prune: Prune, case: str) -> None:
    if case == "second page is empty":
        for _ in range(120):
            world.add_commit(rhcos_json(BOOTIMAGE, REGIONS, world.directory))
        prune.faults.empty_pages = {2}
    else:
        prune.faults.commits_listed = 1 if case == "newest commit only" else 0
    run = prune()
    assert_nothing_changed(run)
    assert run.line("ERROR", "commit", "again")


@pytest.mark.parametrize("moved_to", ["", "data/rhcos.json"], ids=["removed", "renamed"])
def test_version_that_the_newest_commit_removed_is_refused(world: World, prune: Prune, moved_to: str) -> None:
    commit = world.add_commit(moved_to=moved_to)
    run = prune()
    assert_nothing_changed(run)
    assert run.line("ERROR", commit)


@pytest.mark.parametrize("token", [True, False], ids=["with token", "without token"])
def test_policy_of_github_is_quoted_with_the_remedy(prune: Prune, token: bool) -> None:
    prune.faults.answers[commits_url()] = TOKEN_POLICY
    run = prune(env={} if token else {"GITHUB_TOKEN": None})
    assert_nothing_changed(run)
    assert run.line("ERROR", "forbids access via a personal access token", "GITHUB_TOKEN", "unset" if token else "set")
    assert "few minutes" not in run.output


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1800"}], ids=["", "with Retry-After"])
def test_limit_of_the_raw_host_does_not_matter_with_a_token_and_is_refused_in_a_minute_without(
    world: World, prune: Prune, headers: dict[str, str]
) -> None:
    prune.faults.raw_limit = Answer(429, b"429: Too Many Requests", headers)
    prune.clock_speed = 10
    run = prune(env={"GITHUB_TOKEN": None})
    assert_nothing_changed(run)
    assert run.line("ERROR", "429", "set GITHUB_TOKEN")
    assert waited(run) < 60
    assert prune().status == 0
    assert left(world) == set()


# Pins and snapshots


def test_pin_that_is_set_while_tags_are_throttled_is_respected(world: World, prune: Prune) -> None:
    images = [world.images_of(PUBLIC_BUILD)[0], world.images_of(PRIVATE_BUILD)[0]]

    def pin(call: Call) -> None:
        for image in images if call.what == "TagResources" and images[0].id in call.ids else ():
            image.kind, image.tags = "pinned", {"bootimage": "true"}

    prune.faults.ecs = [EcsFault("TagResources", id=images[0].id, calls={1, 2}, answer=THROTTLED)]
    prune.faults.on_call = pin
    prune.clock_speed = 60
    assert prune().status == 0
    assert [image.tags for image in images] == [{"bootimage": "true"}] * 2


@pytest.mark.parametrize("interrupted", [False, True], ids=["finished", "interrupted"])
def test_snapshots_that_a_run_without_the_option_left_are_found_by_the_next_one(
    world: World, prune: Prune, interrupted: bool
) -> None:
    world.add_builds_around(30, REGIONS, datetime(2022, 2, 1))
    prune.faults.latency["ecs"] = 0.05 if interrupted else 0
    with prune.started() as started:
        if interrupted:
            started.wait_until(lambda sandbox: sum(call.what == "DeleteImage" for call in sandbox.calls) > 10)
            started.process.send_signal(signal.SIGINT)
        started.finish()
    prune.faults.latency.clear()
    behind = {snapshot.id for snapshot in world.snapshots.values() if not world.images[snapshot.image_id].listed}
    expected = len(behind | {id for image in world.listed("to be pruned") for id in image.snapshots})
    dry_run = prune("--dry-run", *SWEEP)
    assert dry_run.line("snapshots", "to delete", str(expected))
    assert prune(*SWEEP).status == 0
    assert [s.id for s in world.snapshots.values() if s.listed and not world.images[s.image_id].listed] == []


def test_snapshot_that_a_person_pinned_keeps_its_tag_and_stays(world: World, prune: Prune) -> None:
    snapshot = world.snapshots_of(world.images_of(PRIVATE_BUILD)[0])[0]
    snapshot.tags["bootimage"] = "true"
    run = prune(*SWEEP)
    assert run.status == 0
    assert snapshot.listed
    assert snapshot.tags["bootimage"] == "true"
    assert run.line(snapshot.id, "kept", "pinned")


def test_snapshots_that_are_not_shown_are_not_taken_for_deleted(world: World, prune: Prune) -> None:
    prune.faults.ecs = [EcsFault("DescribeSnapshots", REGION, answer=NO_SNAPSHOTS)]
    prune.clock_speed = 60
    run = prune(*SWEEP)
    assert run.status == 1
    assert run.line("ERROR", REGION, "ecs:DescribeSnapshots")
    assert left(world) == set()


@pytest.mark.parametrize("code", ["SnapshotCreatedDisk", "SnapshotCreatedImage"])
def test_snapshot_that_is_used_is_kept_in_the_words_of_the_api(world: World, prune: Prune, code: str) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    snapshot = world.snapshots_of(image)[0]
    if code == "SnapshotCreatedDisk":
        snapshot.disk = True
    else:
        world.images_of(BOOTIMAGE)[0].snapshots.append(snapshot.id)
    for _ in range(2):
        run = prune(*SWEEP)
        assert run.status == 0
        assert run.line(snapshot.id, "kept", code)
        assert snapshot.listed


@pytest.mark.parametrize("operation", ["DescribeSnapshots", "DeleteSnapshot"])
def test_operation_on_snapshots_that_always_fails_is_one_line(world: World, prune: Prune, operation: str) -> None:
    world.add_builds_around(60, [REGION], datetime(2022, 2, 1))
    prune.faults.ecs = [EcsFault(operation, REGION, answer=Answer(500, b""))]
    prune.clock_speed = 120
    run = prune(*SWEEP)
    assert run.status == 1
    assert run.line("ERROR", REGION, operation)
    assert left(world) == set()


# Answers


@pytest.mark.parametrize("late", [False, True], ids=["not carried out", "carried out"])
@pytest.mark.parametrize("code", PASSING)
def test_code_that_passes_is_a_lost_answer(world: World, prune: Prune, code: str, late: bool) -> None:
    operations = ["DescribeImages", "TagResources", "ModifyImageSharePermission", "DeleteImage", "DeleteSnapshot"]
    for operation in operations:
        fault = EcsFault(operation, REGION, calls={2} if operation == "DescribeImages" else {1})
        fault.late, fault.answer = (PASSING[code], None) if late else (None, PASSING[code])
        prune.faults.ecs.append(fault)
    prune.clock_speed = 10
    run = prune(*SWEEP)
    assert run.status == 0
    assert left(world) == set()
    assert "ERROR" not in run.output


@pytest.mark.parametrize("answer", [NOT_GZIP, NOT_JSON], ids=["gzip", "JSON"])
@pytest.mark.parametrize("url", [commits_url(), "rhcos.json", builds_url(), meta_url(PUBLIC_BUILD)])
def test_damaged_document_is_a_lost_answer(world: World, prune: Prune, url: str, answer: Answer) -> None:
    prune.faults.web = [WebFault(url, answer, calls={1, 2})]
    prune.clock_speed = 10
    assert prune().status == 0
    assert left(world) == set()


def test_last_image_of_a_region_is_recorded_if_the_api_ignores_what_does_not_exist(world: World, prune: Prune) -> None:
    image = world.add_build("410.84.202206010000-0", [NEW_REGION])[0]
    prune.faults.ignore_missing = True
    prune.clock_speed = 60
    run = prune()
    assert run.status == 0
    assert not image.listed
    assert run.record[image.build][0]["deleted"]


def test_refusal_is_quoted_with_its_request_id_and_debug_says_what_a_call_is_about(world: World, prune: Prune) -> None:
    prune.clock_speed = 20
    failing = world.images_of(PUBLIC_BUILD)[0]
    prune.faults.ecs = [EcsFault("DeleteImage", id=failing.id, answer=FORBIDDEN)]
    run = prune("--debug", "4.10")
    assert run.status == 1
    request_id = "[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}"
    assert re.search(request_id, run.line("ERROR", REGION, "DeleteImage", "Forbidden.RAM"))
    debug = [line for line in run.output.splitlines() if line.startswith("DEBUG") and "DeleteImage" in line]
    assert len(debug) == len(run.calls("ecs", "DeleteImage"))
    assert all(re.search("m-[0-9a-f]{20}", line) for line in debug)


def test_store_that_loses_every_third_build_costs_no_more_with_more_builds(world: World, prune: Prune) -> None:
    builds = [f"410.84.2022{month:02}{day:02}0000-0" for month in range(1, 7) for day in range(1, 29)]
    for build in builds:
        world.add_build(build)
    for build in builds[::3]:
        prune.faults.web.append(WebFault(meta_url(build), Answer(503)))
    prune.clock_speed = 5
    run = prune()
    assert run.status == 1
    assert waited(run) < 60
    assert set(builds) - run.record.keys() == set(builds[::3])


NEVER = {
    "DescribeImages 500": ("DescribeImages", Answer(500, b""), "an image"),
    "DescribeImages 403": ("DescribeImages", FORBIDDEN, "an image"),
    "TagResources 403": ("TagResources", FORBIDDEN, "an image"),
    "TagResources 403 for bootimages": ("TagResources", FORBIDDEN, "the bootimages"),
}


@pytest.mark.parametrize(("operation", "answer", "of"), NEVER.values(), ids=NEVER)
def test_image_that_is_never_answered_holds_up_no_other(
    world: World, prune: Prune, operation: str, answer: Answer, of: str
) -> None:
    world.add_builds_around(40, REGIONS, datetime(2022, 2, 1))
    failing = [image_id(PUBLIC_BUILD, REGION)]
    if of == "the bootimages":
        failing = [image.id for image in world.listed("bootimage") if image.region == REGION]
    prune.faults.ecs = [EcsFault(operation, id=id, answer=answer) for id in failing]
    prune.clock_speed = 60
    run = prune()
    assert run.status == 1
    assert left(world) == (set() if of == "the bootimages" else set(failing))
    assert run.line("ERROR", failing[0], operation)


def test_image_that_the_record_calls_deleted_and_that_is_there_is_deleted(world: World, prune: Prune) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    entries = [{"region": i.region, "image": i.id, "deleted": True} for i in world.images_of(PRIVATE_BUILD)]
    prune.write_record({PRIVATE_BUILD: entries})
    del world.images[world.images_of(PRIVATE_BUILD)[1].id]
    assert prune().status == 0
    assert not image.listed


def test_every_third_deletion_that_hangs_does_not_take_hours(world: World, prune: Prune) -> None:
    world.add_builds_around(400, [REGION], datetime(2021, 7, 1), empty=1000)
    prune.faults.ecs = [EcsFault("DeleteImage", REGION, calls=range(3, 10_000, 3), answer=HANGS)]
    prune.clock_speed = 60
    run = prune(env={"SANDBOX_TIMEOUT_SPEED": "60"})
    assert waited(run) < 15 * 60
    prune.faults.ecs.clear()
    assert prune().status == 0
    assert left(world) == set()


def test_process_ends_although_a_call_hangs(world: World, prune: Prune) -> None:
    prune.faults.answers[builds_url()] = Answer(200, b"[]")
    prune.faults.answers["/builds.json"] = HANGS
    started = time.monotonic()
    run = prune()
    assert_nothing_changed(run)
    assert time.monotonic() - started < 60


# Lists


def test_build_that_a_missing_directory_may_list_too_does_not_go_on_record(world: World, prune: Prune) -> None:
    build = "410.84.202206010000-0"
    world.add_build(build, [REGION])
    world.add_commit(rhcos_json(OLD_BOOTIMAGE, REGIONS, OTHER_DIRECTORY))
    world.metas[meta_path(build, "aarch64", OTHER_DIRECTORY)] = {"buildid": build}
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", OTHER_DIRECTORY)
    assert left(world) == set()
    assert build not in run.record


def test_image_that_no_list_names_gets_a_warning_and_stays(world: World, prune: Prune) -> None:
    unlisted = EcsImage("m-unlisted", REGION, PUBLIC_BUILD, "not listed")
    other = EcsImage("m-other", REGION, "", "not listed", name="my-server")
    for image in (unlisted, other):
        world.add_image(image)
    run = prune()
    assert run.status == 0
    assert run.line("WARNING", REGION, unlisted.id, PUBLIC_BUILD)
    assert other.id not in run.output
    assert [image.tags for image in (unlisted, other)] == [{}, {}]


# The shell


def test_proxy_variable_that_is_not_used_is_not_judged(prune: Prune) -> None:
    socks = "socks://127.0.0.1:9050/"
    assert prune(env={"all_proxy": socks, "ALL_PROXY": socks}).status == 0


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotation_marks_around_a_key_are_named(prune: Prune, quote: str) -> None:
    run = prune(env={"ALIYUN_ACCESS_KEY_ID": f"{quote}{KEY_ID}{quote}"})
    assert_nothing_changed(run)
    assert run.line("ERROR", "ALIYUN_ACCESS_KEY_ID", "quotation marks")


@pytest.mark.parametrize("end", ["\r", " "], ids=["CR", "blank"])
def test_invisible_character_at_the_end_of_a_proxy_variable_is_named(prune: Prune, end: str) -> None:
    proxy = f"http://user:password@127.0.0.1:9{end}"
    run = prune(env={"HTTPS_PROXY": proxy, "https_proxy": None})
    assert_nothing_changed(run)
    assert run.line("ERROR", "HTTPS_PROXY")
    assert "password" not in run.output


def test_flock_around_the_run_does_no_harm(world: World, prune: Prune) -> None:
    assert prune(prefix=["flock", "-n", str(prune.folder)]).status == 0
    assert left(world) == set()


def test_working_folder_that_does_not_exist_any_more_is_one_line(prune: Prune) -> None:
    gone = prune.folder / "gone"
    gone.mkdir()
    run = prune(prefix=["bash", "-c", f'cd "{gone}" && rmdir "{gone}" && exec "$@"', "bash"])
    assert run.status == 1
    assert len(run.output.splitlines()) == 1
    assert os.strerror(2) in run.output
