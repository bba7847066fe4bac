"""A run that is interrupted or killed, at any moment, ends at once, leaves the record whole, and is completed later."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import HANGS, Fault, Faults
from harness import REGIONS, Prune
from sandbox import Sandbox
from world import World

SIGHUP, SIGINT, SIGTERM, SIGKILL = signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL
RECORD = '{"410.84.202001010000-0":   [ ]}'
F_GETPIPE_SZ = 1032  # Python 3.9 has no name for it.
FILES = {"aliyun_pruner.log", "deleted_images.json"}


def is_throttled(sandbox: Sandbox) -> bool:
    return any(call.status == 400 for call in sandbox.calls)


def is_deleting(sandbox: Sandbox) -> bool:
    return any(call.what == "DeleteImage" for call in sandbox.calls)


def is_confirming(sandbox: Sandbox) -> bool:
    """Whether all is deleted, and each region was looked at since."""
    last = {call.where: call.what for call in sandbox.calls}
    return not sandbox.world.listed("to be pruned") and {last[region] for region in REGIONS} == {"DescribeImages"}


def is_waiting_for(what: str) -> Callable[[Sandbox], bool]:
    return lambda sandbox: sandbox.under_way[what] > 0


def send_to_another_thread(process: subprocess.Popen[str], signum: int) -> None:
    """As the kernel may do, although the main thread sleeps: one that has just started a thread looks for signals."""
    threads = sorted(int(path.name) for path in Path(f"/proc/{process.pid}/task").iterdir())
    assert ctypes.CDLL(None).tgkill(process.pid, threads[-1], signum) == 0


MOMENTS: dict[str, tuple[Faults, Callable[[Sandbox], bool], signal.Signals, str]] = {
    "connecting": (Faults(latency={"connection": 15}), is_waiting_for("connection"), SIGINT, "listing commits, 0:"),
    "slow answer": (Faults(latency={"ecs": 15}), is_waiting_for("ecs"), SIGHUP, "regions checked 0 of 2, 0:"),
    "throttled": (Faults(calls_a_minute=2), is_throttled, SIGTERM, "images done 0 of "),
    "deletions hang": (Faults([Fault("DeleteImage", HANGS)]), is_deleting, SIGTERM, "images done "),
    "listing lags": (Faults(listing_lag=1000), is_confirming, SIGTERM, "images done 8 of 8, 0:"),
}


@pytest.mark.parametrize(("faults", "moment", "signum", "progress"), MOMENTS.values(), ids=MOMENTS)
def test_waiting_run_ends_at_once_and_says_how_far_it_came(
    prune: Prune, faults: Faults, moment: Callable[[Sandbox], bool], signum: signal.Signals, progress: str
) -> None:
    prune.write_record(RECORD)
    prune.faults = faults
    with prune.started() as started:
        started.wait_until(moment)
        send_to_another_thread(started.process, signum)
        run = started.finish(timeout=5)
    assert run.status == 128 + signum
    line = run.line("ERROR", f"interrupted by {signum.name} (", progress, "run the same command again to continue")
    number = sum(not image.listed for image in started.sandbox.world.images.values())
    said = f"): at least {number} images and 0 snapshots deleted; run" in line
    assert said == ("deleted;" in line) == is_deleting(started.sandbox)
    assert line[8:] in run.log
    # Other threads may still log a line behind it.
    assert f"INFO ended with status {128 + signum} after" in run.log
    assert ((prune.folder / "deleted_images.json").read_text(), prune.files) == (RECORD, FILES)


@pytest.mark.parametrize(("left", "signum"), [(22, SIGTERM), (22, SIGKILL), (0, SIGKILL)])
def test_next_run_completes_an_ended_one(world: World, prune: Prune, left: int, signum: signal.Signals) -> None:
    world.add_builds_around(20, REGIONS)
    prune.write_record(RECORD)
    prune.faults.latency["ecs"] = 0.05
    with prune.started() as started:
        started.wait_until(lambda sandbox: len(sandbox.world.listed("to be pruned")) <= left)
        started.process.send_signal(signum)
        sent = time.time()
        run = started.finish(timeout=20)
        assert [call for call in started.sandbox.calls if call.at > sent + 0.5] == []
    assert run.status in (128 + signum, -signum)
    gone = {image.id for image in world.images.values() if not image.listed}
    assert [id for id in gone if not re.search(rf"deleting \S+ {id} .*{id.replace('m-', 's-')}", run.log)] == []
    assert ((prune.folder / "deleted_images.json").read_text(), prune.files) == (RECORD, FILES)
    prune.assert_next_run_finishes("--delete-snapshots", "4.10")


def test_signal_while_the_record_is_replaced_leaves_it_whole(prune: Prune) -> None:
    entry = {"region": "us-east-1", "image": "m-1", "deleted": True}
    path = prune.write_record({f"411.86.{number:012}-0": [entry] for number in range(10_000)})
    with prune.started() as started:
        while started.process.poll() is None and not list(prune.folder.glob("*.tmp")):
            pass
        started.process.send_signal(SIGHUP)
        assert started.finish(timeout=20).status in (0, 128 + SIGHUP)
    # It is replaced twice: in the trial at the beginning, and at the end with three more builds.
    assert len(json.loads(path.read_text())) in (10_000, 10_003)


def has_handler(process: subprocess.Popen[str], signum: int) -> bool:
    """Whether the process handles the signal, by the bits of SigCgt in proc(5)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signum - 1) & 1)


@pytest.mark.parametrize("signum", [SIGINT, SIGTERM, SIGHUP], ids=lambda signum: signum.name)
def test_signal_during_the_imports_ends_the_process_quietly(prune: Prune, signum: signal.Signals) -> None:
    with prune.started() as started:
        process = started.process
        while not all(has_handler(process, each) for each in (SIGINT, SIGTERM, SIGHUP)):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signum)
        run = started.finish(timeout=20)
    assert (run.status, run.output, prune.files) == (128 + signum, "", set())


def test_hangup_that_nohup_ignores_stays_ignored(prune: Prune) -> None:
    prune.faults.latency["ecs"] = 0.02
    with prune.started(prefix=["nohup"], stdin=subprocess.DEVNULL) as started:
        started.wait_until(lambda sandbox: sandbox.calls)
        started.process.send_signal(SIGHUP)
        assert started.finish(timeout=30).status == 0


def test_reader_that_stopped_reading_does_not_make_the_run_immune(prune: Prune) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x" * fcntl.fcntl(writer, F_GETPIPE_SZ))  # It is full.
    log = prune.folder / "aliyun_pruner.log"
    with prune.started(stdout=writer) as started:
        started.wait_until(lambda _: log.exists() and log.read_text())
        # It blocks in its first line on stdout, which comes after the one in the log.
        for _ in range(2):  # The second one comes while the last lines are logged.
            started.process.send_signal(SIGTERM)
            time.sleep(0.3)
        run = started.finish(timeout=5)
    assert (run.status, run.log.count("interrupted by SIGTERM")) == (128 + SIGTERM, 1)
    os.close(reader)
    os.close(writer)
