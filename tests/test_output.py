"""What a person reads: progress, the summary, the lines of a debug run."""

import re

from faults import Refused
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune
from world import KEY_ID, SECRET, World, days_ago, image_id


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


def test_first_line_says_what_begins_and_the_last_what_ended(prune: Prune) -> None:
    for args, what in ((["4.10"], "run"), (["--dry-run", "4.10"], "dry run")):
        lines = prune(*args).output.splitlines()
        paths = [prune.folder / name for name in ("deleted_images.json", "aliyun_pruner.log")]
        assert lines[0] == f"INFO    {what} of release 4.10; record: {paths[0]}, log: {paths[1]}"
        assert re.fullmatch(r"INFO    ended with status 0 after 0:00:\d\d", lines[-1])


def numbers(line: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"(?<![\w-])[0-9][0-9,]*(?![\w-])", line)]


def test_figures_of_the_summary_add_up(world: World, prune: Prune) -> None:
    pinned = world.images_of(PRIVATE_BUILD)[0]
    pinned.kind, pinned.tags = "pinned", {"bootimage": "true"}
    world.add_build(days_ago(5), REGIONS, "young build")
    gone = world.add_build("410.84.202206090000-0", ["us-east-1"])[0]
    missing = world.images_of(BOOTIMAGE)[0]
    del world.images[gone.id], world.images[missing.id]
    prune.write_record({"410.84.202206021115-0": []})
    prune.faults.refusals["DeleteImage", image_id(PUBLIC_BUILD, "us-east-1")] = Refused(403, "ImageUsingByInstance")
    run = prune()
    assert run.status == 1
    assert numbers(run.line("INFO", "total")) == [2, 1, 1, 1]  # deleted, gone, kept, failed
    rows = [numbers(run.line("INFO", f"{region}  ")) for region in REGIONS]
    assert [sum(column) for column in zip(*rows)] == [2, 1, 1, 1]
    assert numbers(run.line("images deleted"))[0] == 2
    assert numbers(run.line("images already gone"))[0] == 2
    assert numbers(run.line("images kept"))[:3] == [4, 3, 1]
    assert numbers(run.line("images failed"))[:2] == [1, 1]
    assert numbers(run.line("snapshots left"))[0] == 2
    assert numbers(run.line("builds: "))[:4] == [7, 3, 2, 1]
    assert run.line("bootimage", OLD_BOOTIMAGE, "2 regions")
    assert run.line("bootimage", BOOTIMAGE, "1 regions")
    assert run.line("WARNING", missing.id, "not in the account")


def test_second_run_says_nothing_about_regions_where_there_is_nothing_to_do(prune: Prune) -> None:
    assert "us-east-1" in prune().output
    output = prune().output
    assert "us-east-1" not in output
    assert "images deleted: 0" in output


def test_progress_is_logged_every_30_seconds_with_the_regions_that_are_throttled(prune: Prune) -> None:
    prune.faults.calls_a_minute = 1
    prune.clock_speed = 60
    run = prune()
    assert run.status == 0
    waiting = [line for line in run.output.splitlines() if "throttled until" in line]
    assert any(
        re.search(r"images \d+/8, failed 0, [12] regions throttled until \d\d:\d\d:\d\d", line) for line in waiting
    )
    assert "\x1b" not in run.output


def test_no_secret_is_in_the_lines_of_a_debug_run(prune: Prune) -> None:
    """prune looks for them in every output, and for signatures; DEBUG=sdk makes the SDK print its requests."""
    prune.faults.refusals["DeleteImage", ""] = Refused(403, "Strange", f"{KEY_ID} and {SECRET} are quoted")
    run = prune("--debug", "4.10", env={"DEBUG": "sdk"})
    assert run.line("ERROR", "us-east-1", "<ALIYUN_ACCESS_KEY_ID>")


def test_control_characters_of_a_service_reach_neither_log_nor_terminal(prune: Prune) -> None:
    prune.faults.refusals["DeleteImage", ""] = Refused(403, "Strange\x1b[2J", "two\nlines\x07")
    run = prune()
    assert run.status == 1
    assert not re.search(r"[^\x20-\x7e\n]", run.output + run.log)
