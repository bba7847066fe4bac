"""What a person reads: lines, the status line of a terminal, progress, the summary, a debug run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest
from faults import FORBIDDEN, Answer, Fault, ecs_error
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, in_shell
from world import KEY_ID, OTHER_KEY_ID, EcsImage, World, image_id, meta_path

IMAGE, FAILING = image_id(PUBLIC_BUILD, REGIONS[0]), image_id(PRIVATE_BUILD, REGIONS[0])
TERMINAL = [sys.executable, "-c", "import os, pty, sys; sys.exit(os.WEXITSTATUS(pty.spawn(sys.argv[1:])))"]


@pytest.mark.parametrize("interrupted", [False, True], ids=["to the end", "interrupted"])
def test_terminal_gets_a_status_line_that_fits_and_is_cleared_and_no_image(prune: Prune, interrupted: bool) -> None:
    prune.faults.latency["ecs"] = 10 if interrupted else 0.1
    prune.clock_speed = 10  # The status is rewritten 20 times a second.
    with prune.started(prefix=TERMINAL, env={"COLUMNS": "24"}, stdin=subprocess.PIPE) as started:
        if interrupted:
            started.wait_until(lambda sandbox: sandbox.under_way["ecs"])
            time.sleep(0.3)
            assert started.process.stdin
            started.process.stdin.write("\x03")  # Ctrl-C, which the terminal shows as ^C
        run = started.finish()
    assert run.status == (130 if interrupted else 0)
    assert IMAGE not in run.output and interrupted == (IMAGE not in run.log)
    cleared = re.findall(r"([^\n]*)(?=\n\x1b\[K)", run.output)
    assert any(re.search(r"regions checked" if interrupted else r"images done \d of \d", line) for line in cleared)
    assert interrupted == any(line.endswith("^C") for line in cleared)
    assert all(len(line.replace("\x1b[K", "")) < 24 for line in cleared)
    left = re.sub(r"[^\n]*\n\x1b\[K", "", run.output).splitlines()
    assert [line for line in left if not re.match(r"(INFO|WARNING|ERROR) ", line)] == []
    assert left[-1].startswith(f"INFO    ended with status {run.status} after ")


def test_dry_run_names_each_change_and_changes_nothing(world: World, prune: Prune) -> None:
    path, images = prune.write_record(record := '{"410.84.202001010000-0":   [ ]}'), list(world.images.values())
    pinned = world.add_build("410.84.202206070000-0", REGIONS[:1], "pinned", tags={"bootimage": "true"})[0]
    world.add_build("410.84.202206110000-0", ["ap-south-1", "ap-southeast-2"])
    run = prune("--delete-snapshots", "--dry-run", "4.10")
    assert (run.status, path.read_text()) == (0, record)
    assert prune("--delete-snapshots", "--dry-run", "4.10").output.splitlines()[:-1] == run.output.splitlines()[:-1]
    assert run.line(pinned.id).endswith("is kept: pinned by its tag bootimage=true")
    for image in images:
        line = run.line(image.id, "would delete" if image.kind != "bootimage" else "would tag bootimage=true")
        assert ("after making it private" in line) == (image.build == PUBLIC_BUILD)
    assert run.line(IMAGE.replace("m-", "s-"), "would delete")
    assert not re.search(r" deleted$", run.log, re.MULTILINE)
    assert run.output.splitlines()[-2].endswith("run the same command without --dry-run to do this")
    prune()
    run = prune("--delete-snapshots", "--dry-run", "4.10")  # Only snapshots are left to be deleted.
    assert run.output.splitlines()[-2].endswith("run the same command without --dry-run to do this")
    prune("--delete-snapshots", "4.10")
    assert prune("--dry-run", "4.10").output.splitlines()[-2].endswith("nothing was changed: there is nothing to do")
    assert {call.what for call in run.calls("ecs")} == {"DescribeImages", "DescribeSnapshots"}
    assert prune.files == {"aliyun_pruner.log", "deleted_images.json"}


def test_figures_of_the_summary_add_up(world: World, prune: Prune) -> None:
    world.add_build("410.84.202206070000-0", REGIONS, "pinned", tags={"bootimage": "true"})
    for image in world.add_build("410.84.202206090000-0", REGIONS):
        del world.images[image.id]
    missing = world.add_bootimage("410.84.202208010000-0", [*REGIONS, "ap-south-1"])[0]
    del world.images[missing.id]
    for id, owner in {"m-arm": KEY_ID, "m-foreign": OTHER_KEY_ID}.items():
        world.add_image(EcsImage(id, REGIONS[0], BOOTIMAGE, "bootimage", owner=owner, public=True))
        world.metas[meta_path(BOOTIMAGE)]["aliyun"].append({"name": REGIONS[0], "id": id})
    world.add_build("410.84.202206100000-0", REGIONS[:1], name="my-server")
    world.add_build("410.84.202206110000-0", ["ap-south-1"])
    world.add_image(EcsImage("m-copy", REGIONS[1], BOOTIMAGE, "bootimage"))  # It is named for a bootimage.
    world.metas[meta_path(PRIVATE_BUILD)]["aliyun"].append({"name": REGIONS[1], "id": "m-copy"})
    deleted = {"region": REGIONS[0], "image": "m-gone", "deleted": True}
    prune.write_record({"410.84.202201010000-0": [deleted], "411.86.202201010000-0": [deleted]})
    untagged = image_id(BOOTIMAGE, REGIONS[1])
    prune.faults.failing = [Fault("DeleteImage", ecs_error(403, "OperationDenied"), id=FAILING)]
    prune.faults.failing.append(Fault("TagResources", FORBIDDEN, id=untagged))
    run = prune()
    assert run.status == 1
    table = re.findall(rf"({'|'.join(REGIONS)}|total) +(\d+) +(\d+) +(\d+) +(\d+)\n", run.output)
    assert sorted(table) == [("cn-hangzhou", *"2120"), ("total", *"3341"), ("us-east-1", *"1121")]
    assert run.line("bootimages: 3 builds, 9 images = 6 kept + 2 missing + 1 in a closed region")
    assert run.line(f"bootimage {BOOTIMAGE}: 2 regions")
    assert run.line("listed by the store: 10 builds = 7 read + 3 bootimage")
    assert run.line("ap-south-1 is closed since 2024-07-15, with 2 images")  # One is a bootimage.
    found = "12 images = 3 deleted + 2 no longer listed + 2 pinned by its tag bootimage=true + 1 bootimage + 1 failed"
    kept = "+ 1 in a closed region + 1 its name has no ID of a build that a builds.json lists"
    assert run.line(f"other images: {found} + 1 gone by the record of earlier runs {kept}")
    assert run.line("snapshots that this run marked and left, still billed", ": 3")
    left = [run.line("ERROR", f"{REGIONS[1]}: 1 image ({untagged})", "grant ecs:TagResources")]
    left.append(run.line("ERROR", f"{REGIONS[0]}: 1 image ({FAILING})", "OperationDenied"))
    assert sorted(run.output.splitlines()[-3:-1]) == left and run.output.count("ERROR") == 2


def test_no_line_grows_with_the_number_of_builds_and_the_log_names_each_failure(world: World, prune: Prune) -> None:
    world.add_builds_around(60, REGIONS, empty=1000)
    unlisted = [entry["id"] for entry in world.listings[world.directory][:30]]
    prune.write_record(
        {build: [{"region": REGIONS[0], "image": image_id(build, REGIONS[0]), "deleted": False}] for build in unlisted}
    )
    del world.listings[world.directory][:30]
    failing = {i.id for i in world.listed("to be pruned") if i.region == REGIONS[1] and i.build not in unlisted}
    prune.faults.failing = [Fault("DeleteImage", ecs_error(403, "OperationDenied"), when=failing.intersection)]
    run = prune()
    assert run.status == 1
    assert max(len(line) for line in run.output.splitlines()) < 400
    assert run.line("other images:", "30 its name has no ID of a build that a builds.json lists")
    assert run.line("ERROR", f"{REGIONS[1]}: {len(failing)} images: DeleteImage: OperationDenied")
    assert all(re.search(rf"{id} .* is left: DeleteImage: OperationDenied", run.log) for id in failing)


SHELLS = {"closed": '"$@" >&- 2>&- <&-', "closed by its reader": '"$@" | true', "full": '"$@" >/dev/full'}
SHELLS["ascii"] = 'LC_ALL=C PYTHONIOENCODING=ascii exec "$@" --filename ré.json'


@pytest.mark.parametrize("script", SHELLS.values(), ids=SHELLS)
def test_run_is_completed_whatever_becomes_of_its_output(world: World, prune: Prune, script: str) -> None:
    run = prune(prefix=in_shell(script))
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert "status 0" in run.log.splitlines()[-1]


def test_slow_reader_of_a_pipe_that_does_not_wait_gets_every_line(prune: Prune) -> None:
    """A parent may have set O_NONBLOCK on it (nickstenning/honcho#168)."""
    prune.world.add_builds_around(200, REGIONS, empty=1000)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with prune.started(stdout=writer) as started:
        os.close(writer)
        started.wait_until(lambda sandbox: sum(call.what == "DeleteImage" for call in sandbox.calls) > 50)
        time.sleep(2)  # The run has more to say than fits into the pipe.
        with open(reader) as pipe:
            lines = pipe.read().splitlines()
        run = started.finish()
    assert run.status == 0 and len(lines) == len(run.log.splitlines()) > 1000


def test_builds_that_cannot_be_read_are_one_line_without_the_url_of_one(prune: Prune) -> None:
    prune.world.add_builds_around(30, REGIONS)
    prune.faults.failing, prune.clock_speed = [Fault("/meta.json", Answer(500))], 60
    run = prune()
    assert re.search(r"ERROR   RHCOS store: 33 builds: HTTP status 500; try again later\n", run.output)
    assert re.search(r"WARNING RHCOS store: 2 bootimage builds \(\S+, \S+\): HTTP status 500", run.output)
    left = re.findall(r" (410\S+) is left: (?:https://\S+/(\S+)/x86_64/meta.json: )?HTTP status 500", run.log)
    assert len(left) == 35 and all(named in (build, "") for build, named in left)


def test_progress_is_logged_every_30_seconds_where_there_is_no_terminal(world: World, prune: Prune) -> None:
    world.add_builds_around(20, REGIONS[:1])
    prune.faults.latency, prune.faults.calls_a_minute, prune.clock_speed = {"store": 0.7}, 5, 60
    run = prune()
    assert re.search(r"INFO    builds.json read \d of \d, 0:00:[3-5]", run.output)
    assert "INFO meta.json read 0 of 25" in run.log
    waiting = r"images done \d+ of \d+, throttled until \d\d:\d\d:\d\d \S+, 0:\d\d:\d\d"
    assert re.search(f"INFO    {waiting}\n", run.output)
    read_at = [call.at for call in run.calls("store", "/meta.json")]  # Each of them takes 42 seconds.
    assert sum(at < min(read_at) + 42 for at in read_at) > 4


def test_dumb_terminal_gets_no_escape_sequences(prune: Prune) -> None:
    run = prune(prefix=TERMINAL, env={"TERM": "dumb"}, stdin=subprocess.PIPE)
    assert run.status == 0 and "\x1b" not in run.output and IMAGE in run.output
