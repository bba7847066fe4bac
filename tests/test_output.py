"""What a person reads: progress, the summary, the lines of a debug run."""

import re
from datetime import datetime

import pytest
from faults import Answer, Refused
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune
from world import OTHER_KEY_ID, World, days_ago, image_id, meta_url

PROGRESS = re.compile(r"INFO    (.+) (\d+) of (\d+) (.+), \d+ failed, (about \d+:\d\d:\d\d left|time left unknown)")


@pytest.mark.parametrize(
    ("slow", "phase"),
    [
        ("github", "reading 0 of 3 versions of rhcos.json"),
        ("store", "reading the images of 0 of 5 builds"),
        ("ecs", "looking at the images of 0 of 2 regions"),
        ("ecs", "pruning 0 of 8 images"),
    ],
)
def test_long_phase_shows_progress_every_ten_seconds(prune: Prune, slow: str, phase: str) -> None:
    prune.faults.latency[slow] = 0.6
    prune.clock_speed = 40
    run = prune()
    assert run.status == 0
    assert phase in run.output
    assert phase in run.log


def test_progress_tells_done_total_failures_and_the_time_left(world: World, prune: Prune) -> None:
    world.add_builds_around(60, ["us-east-1"], datetime(2022, 2, 1))
    prune.faults.refusals["DeleteImage", image_id(PUBLIC_BUILD, "us-east-1")] = Refused(403, "ImageUsingByInstance")
    prune.faults.latency["ecs"] = 0.1
    prune.clock_speed = 60
    run = prune()
    lines = [match.groups() for line in run.output.splitlines() if (match := PROGRESS.fullmatch(line))]
    pruning = [int(done) for phase, done, *_ in lines if phase == "pruning"]
    assert len(pruning) >= 3
    assert pruning == sorted(pruning)
    assert {total for phase, _, total, *_ in lines if phase == "pruning"} == {"48"}
    assert any("left" in left and "unknown" not in left for *_, left in lines)


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
    assert image.snapshots[0] in prune().line(image.id, "deleted")


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
    summary = [line.partition(" ")[2].strip() for line in run.output.splitlines()[-9:]]
    assert summary == [
        "builds: 8, of these 2 bootimages, 1 younger than 30 days, 1 on record already, 0 not readable",
        "images deleted: 2",
        "images gone already: 1",
        "images kept: 5 (3 bootimage, 1 not the account's own, 1 pinned by its tag bootimage=true)",
        "bootimages that are not in the account: 1",
        "images failed: 1",
        "us-east-1: 1 ImageUsingByInstance",
        "record: deleted_images.json",
        "not all is done: mend the causes named above, then run the same command again for what is left",
    ]


def test_summary_of_a_dry_run_is_in_the_conditional(prune: Prune) -> None:
    run = prune("--dry-run", "4.10")
    assert run.line("images that would be deleted: 4")
    assert run.line("images that would be kept: 4 (4 bootimage)")
    assert run.line("record", "not written")


def test_summary_counts_builds_that_could_not_be_read(prune: Prune) -> None:
    prune.faults.answers[meta_url(PUBLIC_BUILD)] = Answer(403)
    run = prune()
    assert run.line("builds: 5", "1 not readable")
    assert run.line("not all is done")


def test_nothing_is_left_to_do_when_all_is_done(prune: Prune) -> None:
    assert "not all is done" not in prune().output
