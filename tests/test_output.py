"""What a person reads: progress, the summary, the lines of a debug run."""

import re
from datetime import datetime

from faults import Answer, Refused
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune
from world import OTHER_KEY_ID, World, days_ago, image_id, meta_url

PROGRESS = re.compile(r"INFO    images done (\d+)/48, failed (\d+), regions \d/2, time left (unknown|\d:\d\d:\d\d)")


def test_long_phase_shows_progress_every_30_seconds(prune: Prune) -> None:
    prune.faults.latency = dict.fromkeys(("github", "store", "ecs"), 0.6)
    prune.clock_speed = 60
    run = prune()
    assert run.status == 0
    for phase in (
        "versions of rhcos.json 0/3, failed 0, time left unknown",
        "builds 0/5, failed 0, time left unknown",
        "regions checked 0/2, failed 0, time left unknown",
        "regions looked at 0/2, failed 0, time left unknown",
        "images done 0/8, failed 0, regions 0/2, time left unknown",
    ):
        assert phase in run.output
        assert phase in run.log


def test_progress_shows_done_total_failures_and_the_time_left(world: World, prune: Prune) -> None:
    world.add_builds_around(60, ["us-east-1"], datetime(2022, 2, 1))
    # The other region has two images to delete, and is done early.
    prune.faults.refusals["DeleteImage", image_id(PUBLIC_BUILD, "cn-hangzhou")] = Refused(403, "ImageUsingByInstance")
    prune.faults.latency["ecs"] = 0.1
    prune.clock_speed = 180
    matches = [match for line in prune().output.splitlines() if (match := PROGRESS.fullmatch(line))]
    done = [int(match[1]) for match in matches]
    assert len(matches) >= 3
    assert done == sorted(done)
    assert done[-1] > 4  # the bootimages are done first
    assert matches[-1][2] == "1"
    assert matches[-1][3] != "unknown"


def test_log_file_has_times_with_time_zone_and_no_control_characters(prune: Prune) -> None:
    log = prune("--debug", "4.10").log
    for line in log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} [A-Z]+ ", line)
    assert not re.search(r"[^\x20-\x7e\n]", log)


def test_debug_adds_each_outside_call_with_its_outcome_and_duration(prune: Prune) -> None:
    failing = image_id(PUBLIC_BUILD, "us-east-1")
    prune.faults.refusals["DeleteImage", failing] = Refused(403, "ImageUsingByInstance")
    run = prune("--debug", "4.10")
    debug = [line for line in run.output.splitlines() if line.startswith("DEBUG")]
    assert sum(" in 0." in line for line in debug) == len(run.sandbox.calls)
    assert run.line("DEBUG", "us-east-1 DeleteImage", "ImageUsingByInstance", " s")
    assert run.line("DEBUG", "builds.json: 200 in ")


def test_line_of_a_deleted_image_names_its_snapshots(world: World, prune: Prune) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    assert prune().line(image.id, "leaves snapshot").endswith(image.snapshots[0])


def test_summary(world: World, prune: Prune) -> None:
    world.images_of(PRIVATE_BUILD)[0].tags["bootimage"] = "true"
    world.images_of(PRIVATE_BUILD)[0].kind = "pinned"
    world.add_build("410.84.202206070000-0", ["us-east-1"], "another account's", owner=OTHER_KEY_ID, public=True)
    world.add_build(days_ago(5), REGIONS, "young build")
    gone = world.add_build("410.84.202206090000-0", ["us-east-1"])[0]
    del world.images[gone.id]
    missing = world.images_of(BOOTIMAGE)[0]
    del world.images[missing.id]
    prune.write_record({"410.84.202206021115-0": []})
    prune.faults.refusals["DeleteImage", image_id(PUBLIC_BUILD, "us-east-1")] = Refused(403, "ImageUsingByInstance")
    run = prune()
    summary = [line.partition(" ")[2].strip() for line in run.output.splitlines()[-10:-1]]
    assert summary == [
        "images deleted: 2",
        "images already gone: 1",
        "images kept: 7 (3 bootimage, 2 build younger than 30 days, 1 not the account's own, "
        "1 pinned by its tag bootimage=true)",
        "images missing although they are bootimages: 1",
        "images failed: 1",
        "snapshots left by this run, still billed: 2 (the log names them)",
        "not pruned in us-east-1: 1 (ImageUsingByInstance)",
        f"record: {run.folder / 'deleted_images.json'}",
        "some images were not pruned: fix the errors above and run the same command again",
    ]


def test_first_line_says_what_begins_and_the_last_what_ended(prune: Prune) -> None:
    for args, what in ((["4.10"], "run"), (["--dry-run", "4.10"], "dry run")):
        lines = prune(*args).output.splitlines()
        paths = [prune.folder / name for name in ("deleted_images.json", "aliyun_pruner.log")]
        assert lines[0] == f"INFO    {what} of release 4.10; record: {paths[0]}, log: {paths[1]}"
        assert re.fullmatch(r"INFO    ended with status 0 after 0:00:\d\d", lines[-1])


def test_plan(world: World, prune: Prune) -> None:
    world.add_build(days_ago(5), REGIONS, "young build")
    world.add_build("410.84.test-0", ["us-east-1"], "undated build")
    prune.write_record({"410.84.202206021115-0": []})
    lines = [line[8:] for line in prune("--dry-run", "4.10").output.splitlines()]
    first = lines.index(f"bootimage {OLD_BOOTIMAGE}: 2 regions")
    assert lines[first : first + 8] == [
        f"bootimage {OLD_BOOTIMAGE}: 2 regions",
        f"bootimage {BOOTIMAGE}: 2 regions",
        "builds: 7 (2 bootimage, 2 to prune, 1 build younger than 30 days, 1 no date in the build ID, "
        "1 on record already)",
        "builds with images to delete: 2, made from 2022-03-01 to 2022-05-17",
        "region           to delete  of these public  bootimages  kept otherwise",
        "cn-hangzhou              2                1           2               1",
        "us-east-1                2                1           2               2",
        "total                    4                2           4               3",
    ]
    assert "images to delete: 4" in lines
    assert "snapshots left, still billed: 4 (unless --delete-snapshots is given)" in lines
    assert sum("would be tagged bootimage=false" in line for line in lines) == 4


def test_summary_counts_builds_that_could_not_be_read(prune: Prune) -> None:
    prune.faults.answers[meta_url(PUBLIC_BUILD)] = Answer(403)
    run = prune()
    assert run.line("ERROR", f"build {PUBLIC_BUILD} is skipped")
    assert run.line("some images were not pruned")


def test_nothing_is_left_to_do_when_all_is_done(prune: Prune) -> None:
    assert "some images were not pruned" not in prune().output


def test_control_characters_of_a_service_reach_neither_log_nor_terminal(prune: Prune) -> None:
    code = "Denied\n2026-01-01T00:00:00+0000 INFO us-east-1 m-1 (1) leaves snapshot s-1\x1b[2J"
    prune.faults.refusals["DeleteImage", image_id(PUBLIC_BUILD, "us-east-1")] = Refused(403, code, "\x1b[2J\u202e")
    run = prune()
    assert run.status == 1
    assert not [
        line for line in run.log.splitlines() if "s-1\\x1b" in line and not re.match(r"\S+ (ERROR|INFO not)", line)
    ]
    assert not re.search(r"[^\x20-\x7e\n]", run.log + run.output)
