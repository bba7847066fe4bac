"""What a person reads: lines, the status line of a terminal, progress, the summary, a debug run."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time

import pytest
from faults import Fault, ecs_error
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, in_shell
from world import GITHUB_TOKEN, KEY_ID, OTHER_KEY_ID, SECRET, EcsImage, World, image_id, meta_path

import main

IMAGE, FAILING = image_id(PUBLIC_BUILD, REGIONS[0]), image_id(PRIVATE_BUILD, REGIONS[0])
TERMINAL = [sys.executable, "-c", "import os, pty, sys; sys.exit(os.WEXITSTATUS(pty.spawn(sys.argv[1:])))"]


def test_pipe_gets_every_line_that_the_log_gets_from_the_first_to_the_last(prune: Prune) -> None:
    run = prune()
    assert run.line(REGIONS[0], IMAGE, PUBLIC_BUILD, "deleted")
    log = [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} [A-Z]+ ", "", line) for line in run.log.splitlines()]
    lines = [line[8:] for line in run.output.splitlines()]
    assert sorted(lines) == sorted(log)
    assert re.match(r"run of release 4.10; .*deleted_images.json.*aliyun_pruner.log", lines[0])
    assert re.match(r"ended with status 0 after 0:\d\d:\d\d", lines[-1])


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
    assert any(re.search(r"regions checked \d/2" if interrupted else r"images \d/8", line) for line in cleared)
    assert interrupted == any(line.endswith("^C") for line in cleared)
    assert all(len(line.replace("\x1b[K", "")) < 24 for line in cleared)
    left = re.sub(r"[^\n]*\n\x1b\[K", "", run.output).splitlines()
    assert [line for line in left if not re.match(r"(INFO|WARNING|ERROR) ", line)] == []
    assert left[-1].startswith(f"INFO    ended with status {run.status} after ")


def test_dry_run_names_each_change_and_changes_nothing(world: World, prune: Prune) -> None:
    path, images = prune.write_record(record := '{"410.84.202001010000-0":   [ ]}'), list(world.images.values())
    pinned = world.add_build("410.84.202206070000-0", REGIONS[:1], "pinned", tags={"bootimage": "true"})[0]
    run = prune("--delete-snapshots", "--dry-run", "4.10")
    assert (run.status, path.read_text()) == (0, record)
    assert run.line(pinned.id).endswith(f"is kept: {main.PINNED}")
    for image in images:
        line = run.line(image.id, "would be tagged", f"bootimage={str(image.kind == 'bootimage').lower()}")
        assert ("made private" in line, "deleted" in line) == (image.build == PUBLIC_BUILD, image.kind != "bootimage")
    assert run.line(IMAGE.replace("m-", "s-"), "would be deleted")
    assert {call.what for call in run.calls("ecs")} == {"DescribeImages", "DescribeSnapshots"}
    assert prune.files == {"aliyun_pruner.log", "deleted_images.json"}


def test_figures_of_the_summary_add_up(world: World, prune: Prune) -> None:
    world.add_build("410.84.202206070000-0", REGIONS, "pinned", tags={"bootimage": "true"})
    for image in world.add_build("410.84.202206090000-0", REGIONS):
        del world.images[image.id]
    for id, owner in {"m-arm": KEY_ID, "m-foreign": OTHER_KEY_ID}.items():  # Only the own one is kept.
        world.add_image(EcsImage(id, REGIONS[0], BOOTIMAGE, "bootimage", owner=owner, public=True))
        world.metas[meta_path(BOOTIMAGE)]["aliyun"].append({"name": REGIONS[0], "id": id})
    prune.faults.failing = [Fault("DeleteImage", ecs_error(403, "OperationDenied"), id=FAILING)]
    run = prune()
    assert run.status == 1
    table = re.findall(rf"({'|'.join(REGIONS)}|total) +(\d+) +(\d+) +(\d+) +(\d+)\n", run.output)
    assert sorted(table) == [("cn-hangzhou", *"2110"), ("total", *"3221"), ("us-east-1", *"1111")]
    totals = dict(re.findall(r"INFO    images ([a-z ]+): (\d+)", run.output))
    assert totals == {"deleted": "3", "already gone": "2", "kept": "2", "failed": "1"}
    assert run.line("builds: 7 (4 to prune, 2 bootimage, 1 without images)")
    assert run.line("images already gone: 2 (2 no longer listed)")
    assert run.line(f"bootimage {BOOTIMAGE}: 2 regions") and run.line("bootimages kept: 5")
    assert "images deleted: 3\n" in run.output and "images kept: 2 (2 pinned by" in run.output
    assert run.line("ERROR", FAILING, "OperationDenied") and run.line("snapshots marked, still billed", ": 3")


def test_debug_run_has_each_call_with_what_it_is_about_and_no_secret_is_in_any_output(prune: Prune) -> None:
    message = f"{KEY_ID} {SECRET} {GITHUB_TOKEN} /?Signature=c2lnbmF0dXJl%3D&Action=DeleteImage"
    prune.faults.failing = [Fault("DeleteImage", ecs_error(403, "OperationDenied", message), id=FAILING)]
    prune.faults.accidents, prune.clock_speed = 0.08, 20
    run = prune("-d", "4.10", env={"DEBUG": "sdk"})  # It checks that there is no secret.
    assert len(re.findall(r"DEBUG.* in \d+\.\d+ s\n", run.output)) == len(run.sandbox.calls)
    deletions = re.findall(r"DEBUG +\S+ DeleteImage \['(m-[0-9a-f]{20})'\]: ", run.output)
    assert sorted(deletions) == sorted(call.ids[0] for call in run.calls("ecs", "DeleteImage"))
    assert run.line("ERROR", "<ALIYUN_ACCESS_KEY_ID>") and "c2ln" not in run.output


REDACTED = {
    f"key {SECRET}!": "key <ALIYUN_ACCESS_KEY_SECRET>!",
    "?Signature=a%2Fb%3D&Action=x Signature%3DT%252F": "?Signature=<redacted>&Action=x Signature%3D<redacted>",
    "407: Basic ZGVwbG95ZXI6cEBzc3dvcnQ= is wrong": "407: Basic <HTTPS_PROXY> is wrong",
    "http://deployer:p%40sswort@proxy:3128/": "http://<HTTPS_PROXY>@proxy:3128/",
    "a\n1 INFO\x1b[2J\u202e": r"a\n1 INFO\x1b[2J\u202e",
}


def test_no_foreign_text_forges_a_line_or_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIYUN_ACCESS_KEY_SECRET", f" {SECRET} ")
    monkeypatch.setenv("HTTPS_PROXY", "http://deployer:p%40sswort@proxy:3128/")
    for text, expected in REDACTED.items():
        assert main.RedactingFormatter().format(logging.makeLogRecord({"msg": text})) == expected
    assert main.one_line("a\n b") == "a b"
    for cut in (main.one_line(f"{'x' * 290}{SECRET}"), main.excerpt(f"{'x' * 90}{SECRET}".encode())):
        assert SECRET[:3] not in cut and cut.endswith("...")


SHELLS = {"closed": '"$@" >&- 2>&- <&-', "closed by its reader": '"$@" | true', "full": '"$@" >/dev/full'}
SHELLS["ascii"] = 'LC_ALL=C PYTHONIOENCODING=ascii exec "$@" --filename ré.json'


@pytest.mark.parametrize("script", SHELLS.values(), ids=SHELLS)
def test_run_is_completed_whatever_becomes_of_its_output(world: World, prune: Prune, script: str) -> None:
    run = prune(prefix=in_shell(script))
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert "status 0" in run.log.splitlines()[-1]


def test_progress_is_logged_every_30_seconds_where_there_is_no_terminal(prune: Prune) -> None:
    prune.faults.latency, prune.clock_speed = {"store": 0.3}, 150
    run = prune()
    assert "INFO    builds.json 0/5" in run.output and "INFO builds 0/5" in run.log


def test_progress_counts_what_is_done_and_deleted_and_the_regions_that_are_throttled() -> None:
    progress = main.Progress()
    progress.begin("images", 1234)
    for deleted in (0, 1, 1):
        progress.count(deleted=deleted)
    assert str(progress) == "images 3/1,234, images deleted 2"
    progress.throttled = {"us-east-1": time.time() + 30, "cn-beijing": time.time() - 1}
    assert re.search(r"regions throttled 1, until \d\d:\d\d:\d\d$", str(progress))
