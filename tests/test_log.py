"""The log has every line, and no change is made without one: for the one who must prove what was deleted, and why."""

from __future__ import annotations

import itertools
import re

from faults import Call
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PUBLIC_BUILD, REGIONS, Prune, in_shell
from world import World, days_ago, image_id

IMAGE = image_id(PUBLIC_BUILD, REGIONS[0])


def test_pipe_gets_every_line_that_the_log_gets_from_the_first_to_the_last(prune: Prune) -> None:
    run = prune()
    assert run.line(REGIONS[0], IMAGE, PUBLIC_BUILD, "deleted")
    log = [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} 4.10 [A-Z]+ ", "", line) for line in run.log.splitlines()]
    lines = [line[8:] for line in run.output.splitlines()]
    assert sorted(lines) == sorted(log)
    assert re.match(r"run of release 4.10; .*deleted_images.json.*aliyun_pruner.log, main.py: [0-9a-f]{12}$", lines[0])
    assert re.match(r"ended with status 0 after 0:\d\d:\d\d", lines[-1])


def test_log_says_what_was_believed_with_the_release_in_each_line(world: World, prune: Prune) -> None:
    young = days_ago(3)
    world.add_build(young, REGIONS, "young build")
    world.add_build("410.84.test-0", REGIONS[:1], "undated build")
    run = prune("--delete-snapshots", "4.10")
    assert all(re.match(r"\S+ 4\.10 (INFO|WARNING) ", line) for line in run.log.splitlines())
    assert f"no builds on record at {prune.folder / 'deleted_images.json'}: every build is read" in run.log
    for commit, build in zip(world.branches["release-4.10"], (BOOTIMAGE, OLD_BOOTIMAGE)):
        assert f"commit {commit} names {build}" in run.log
    assert f"build {young} is left: build younger than " in run.log
    assert "build 410.84.test-0 is left: no date in the build ID" in run.log
    assert f"deleting {REGIONS[0]} {IMAGE.replace('m-', 's-')} (behind {IMAGE}, {PUBLIC_BUILD})" in run.log
    assert len(re.findall(r" m-.* deleted$", run.log, re.MULTILINE)) == 4
    assert len(re.findall(r" s-.* deleted$", run.log, re.MULTILINE)) == 4
    assert "no builds on record" not in prune().output


def test_log_that_is_rotated_away_is_opened_anew(world: World, prune: Prune) -> None:
    """logrotate with `compress` removes the file that is still open."""
    world.add_builds_around(60, REGIONS)
    log, rotated = prune.folder / "aliyun_pruner.log", [""]
    aside = log.with_suffix(".1")
    deletions = itertools.count()

    def rotate(call: Call) -> None:
        """With every fifth deletion, move the log aside, or read and remove what was moved aside before."""
        if call.what != "DeleteImage" or next(deletions) % 5:
            return
        if aside.exists():
            rotated.append(aside.read_text())
            aside.unlink()
        elif log.exists():
            log.rename(aside)

    prune.faults.on_call = rotate
    run = prune()
    assert run.status == 0 and len(rotated) > 5
    logs = "".join([*rotated, *(path.read_text() for path in prune.folder.glob("aliyun_pruner.*"))])
    deleted = [image for image in world.images.values() if not image.listed]
    assert [image.id for image in deleted if f"{image.id} ({image.build}) deleted" not in logs] == []


def test_log_that_cannot_be_opened_anew_ends_the_run(world: World, prune: Prune) -> None:
    world.add_builds_around(60, REGIONS)
    log = prune.folder / "aliyun_pruner.log"

    def replace_by_folder(call: Call) -> None:
        if call.what == "DeleteImage" and log.is_file():
            log.unlink()
            log.mkdir()

    prune.faults.on_call = replace_by_folder
    run = prune()
    assert run.status == 1 and world.listed("to be pruned")
    assert run.line("ERROR", "aliyun_pruner.log cannot be written", "free space, or give another --log-to-file")


def test_log_that_can_no_longer_be_written_ends_the_run_before_the_next_deletion(world: World, prune: Prune) -> None:
    """What is left behind an image would be named nowhere."""
    world.add_builds_around(60, REGIONS)
    run = prune(prefix=in_shell('ulimit -f 16; exec "$@"'))  # The log may have 16 KiB.
    assert run.status == 1 and world.listed("to be pruned")
    assert run.line("ERROR", "aliyun_pruner.log", "--log-to-file: at least ", " images and 0 snapshots deleted")
    deleted = [image for image in world.images.values() if not image.listed]
    assert [image.id for image in deleted if image.snapshots[0] not in run.log] == []
