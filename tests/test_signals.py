"""Signals at awkward moments: during the imports, while nobody reads stdout, while the record is replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness import REGIONS, Prune
from world import World

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def has_handler(process: subprocess.Popen[str], signum: int) -> bool:
    """Whether the process handles the signal, by the bits of SigCgt in proc(5)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signum - 1) & 1)


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_signal_during_the_imports_ends_the_process_quietly(prune: Prune, signum: signal.Signals) -> None:
    with prune.started() as started:
        process = started.process
        while not has_handler(process, signal.SIGHUP) or not has_handler(process, signal.SIGTERM):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signum)
        run = started.finish(timeout=20)
    assert run.status == 128 + signum
    assert run.output == ""
    assert list(prune.folder.iterdir()) == []


def test_hangup_that_nohup_ignores_stays_ignored(prune: Prune) -> None:
    prune.faults.latency["ecs"] = 0.1
    with prune.started(prefix=["nohup"], stdin=subprocess.DEVNULL) as started:
        started.wait_until(lambda sandbox: sandbox.calls)
        started.process.send_signal(signal.SIGHUP)
        assert started.finish(timeout=30).status == 0


def test_reader_that_stopped_reading_does_not_make_the_run_immune(prune: Prune) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    with prune.started(stdout=writer) as started:
        time.sleep(1.5)  # It blocks in its first line.
        sent = time.monotonic()
        started.process.send_signal(signal.SIGTERM)
        run = started.finish(timeout=20)
        assert time.monotonic() - sent < 3
    os.close(reader)
    os.close(writer)
    assert run.status == 128 + signal.SIGTERM


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP], ids=lambda signum: signum.name)
def test_signal_while_the_record_is_replaced_leaves_it_whole_and_nothing_beside_it(
    prune: Prune, signum: signal.Signals
) -> None:
    entry = {"region": "us-east-1", "image": "m-1", "deleted": True}
    path = prune.write_record({f"411.86.{number:012}-0": [entry] for number in range(20_000)})
    with prune.started() as started:
        while started.process.poll() is None and not list(prune.folder.glob("*.tmp")):
            pass
        started.process.send_signal(signum)
        run = started.finish(timeout=20)
    assert run.status == 128 + signum
    assert sorted(each.name for each in prune.folder.iterdir()) == ["aliyun_pruner.log", "deleted_images.json"]
    assert len(json.loads(path.read_text())) >= 20_000


def test_interrupted_run_names_signal_progress_and_status_in_the_log(world: World, prune: Prune) -> None:
    prune.faults.latency["ecs"] = 5
    with prune.started() as started:
        started.wait_until(lambda sandbox: sandbox.under_way["ecs"])
        started.process.send_signal(signal.SIGHUP)
        run = started.finish(timeout=10)
    assert run.status == 128 + signal.SIGHUP
    assert "interrupted by SIGHUP (regions checked 0/2, failed 0): run the same command again to continue" in run.log
    assert "ended with status 129 after" in run.log.splitlines()[-1]
    assert {image.region for image in world.listed("to be pruned")} == set(REGIONS)
