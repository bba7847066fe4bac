"""Signals at awkward moments: during the imports, while nobody reads stdout, while the record is replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import MAIN, REGIONS, Prune
from proxy import Sandbox
from world import World

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def start(sandbox: Sandbox, folder: Path, *args: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, str(MAIN), *args], cwd=folder, env=sandbox.environment(), **options
    )


def seconds_until_end(process: subprocess.Popen[bytes], signum: int) -> float:
    sent = time.monotonic()
    process.send_signal(signum)
    process.wait(timeout=20)
    return time.monotonic() - sent


def has_handler(process: subprocess.Popen[bytes], signum: int) -> bool:
    """Whether the process handles the signal, by the bits of SigCgt in proc(5)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signum - 1) & 1)


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_signal_during_the_imports_ends_the_process_quietly(prune: Prune, signum: signal.Signals) -> None:
    with Sandbox(prune.world) as sandbox:
        process = start(sandbox, prune.folder, "4.10", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while not has_handler(process, signal.SIGHUP) or not has_handler(process, signal.SIGTERM):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signum)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + signum
    assert output == b""
    assert list(prune.folder.iterdir()) == []


def test_hangup_that_nohup_ignores_stays_ignored(prune: Prune) -> None:
    prune.faults.latency["ecs"] = 0.1
    with Sandbox(prune.world, prune.faults) as sandbox:
        process = subprocess.Popen(
            ["nohup", sys.executable, str(MAIN), "4.10"],
            cwd=prune.folder,
            env=sandbox.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not sandbox.calls:
            time.sleep(0.01)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_reader_that_stopped_reading_does_not_make_the_run_immune(
    world: World, prune: Prune, signum: signal.Signals
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    with Sandbox(world) as sandbox:
        process = start(sandbox, prune.folder, "4.10", stdout=writer, stderr=writer)
        time.sleep(1.5)  # It blocks in its first line.
        assert seconds_until_end(process, signum) < 3
    os.close(reader)
    os.close(writer)
    assert process.returncode == 128 + signum


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_signal_while_the_record_is_replaced_leaves_it_whole_and_nothing_beside_it(
    world: World, prune: Prune, signum: signal.Signals
) -> None:
    entry = {"region": "us-east-1", "image": "m-1", "deleted": True}
    path = prune.write_record({f"411.86.{number:012}-0": [entry] for number in range(20_000)})
    with Sandbox(world) as sandbox:
        process = start(sandbox, prune.folder, "4.10", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(prune.folder.glob("*.tmp")):
            pass
        process.send_signal(signum)
        process.wait(timeout=20)
    assert process.returncode == 128 + signum
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
