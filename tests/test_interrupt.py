"""Ctrl-C, SIGTERM and kill -9, in every phase."""

import json
import signal
import time
from collections.abc import Callable
from datetime import datetime

import pytest
from harness import REGIONS, Prune, Started, assert_next_run_finishes
from proxy import Sandbox
from world import World

RECORD = '{"410.84.202001010000-0":   [ ]}'


def changes(sandbox: Sandbox) -> int:
    return sum(call.service == "ecs" and call.what != "DescribeImages" for call in sandbox.calls)


def interrupt(started: Started, signum: signal.Signals) -> float:
    """Send the signal, wait for the end, and return the seconds that it took."""
    sent = time.monotonic()
    started.process.send_signal(signum)
    run = started.finish(timeout=20)
    assert run.status == 128 + signum
    assert run.line("interrupted by", signum.name, "run the same command again")
    files = {path.name for path in run.folder.iterdir()}
    assert files == {"aliyun_pruner.log", "deleted_images.json"}
    assert (run.folder / "deleted_images.json").read_text() == RECORD
    return time.monotonic() - sent


@pytest.mark.parametrize(
    ("service", "signum"),
    [
        ("connection", signal.SIGINT),
        ("github", signal.SIGTERM),
        ("store", signal.SIGINT),
        ("ecs", signal.SIGTERM),
    ],
)
def test_signal_while_a_service_is_slow(prune: Prune, signum: signal.Signals, service: str) -> None:
    prune.write_record(RECORD)
    prune.faults.latency[service] = 15
    with prune.started() as started:
        started.wait_until(lambda sandbox: sandbox.under_way[service])
        assert interrupt(started, signum) < 5
        assert changes(started.sandbox) == 0
    assert_next_run_finishes(prune)


def test_signal_while_waiting_for_a_throttled_minute(world: World, prune: Prune) -> None:
    world.add_builds_around(90, REGIONS, datetime(2022, 2, 1))
    prune.write_record(RECORD)
    prune.faults.calls_a_minute = 10
    with prune.started() as started:
        started.wait_until(
            lambda sandbox: (
                sandbox.ecs.calls_in_minute.most_common(1)[0][1] > 10 if sandbox.ecs.calls_in_minute else False
            )
        )
        assert interrupt(started, signal.SIGTERM) < 5
    assert_next_run_finishes(prune)


def test_signal_while_waiting_for_images_to_leave_the_listing(prune: Prune) -> None:
    prune.write_record(RECORD)
    prune.faults.listing_lag = 1000
    with prune.started() as started:
        started.wait_until(lambda sandbox: len([c for c in sandbox.calls if c.what == "DescribeImages"]) > 6)
        assert interrupt(started, signal.SIGTERM) < 5
    assert_next_run_finishes(prune)


def test_signal_while_a_lost_connection_is_retried(prune: Prune) -> None:
    prune.write_record(RECORD)
    prune.faults.lost_before = 1.0
    with prune.started() as started:
        started.wait_until(lambda sandbox: len(sandbox.calls) >= 4)
        assert interrupt(started, signal.SIGINT) < 5
    assert_next_run_finishes(prune)


def test_no_change_begins_after_the_signal(world: World, prune: Prune) -> None:
    world.add_builds_around(120, REGIONS, datetime(2022, 2, 1))
    prune.write_record(RECORD)
    prune.faults.latency["ecs"] = 0.02
    with prune.started() as started:
        started.wait_until(lambda sandbox: changes(sandbox) > 10)
        sent = time.time()
        interrupt(started, signal.SIGTERM)
        assert [call for call in started.sandbox.calls if call.at > sent + 0.08] == []
    assert_next_run_finishes(prune)


def test_interrupted_run_says_how_far_it_came(world: World, prune: Prune) -> None:
    world.add_builds_around(60, REGIONS, datetime(2022, 2, 1))
    prune.faults.latency["ecs"] = 0.1
    with prune.started() as started:
        started.wait_until(lambda sandbox: any(call.what == "DeleteImage" for call in sandbox.calls))
        started.process.send_signal(signal.SIGINT)
        run = started.finish()
    assert run.line("interrupted by SIGINT", "/88, failed 0", "run the same command again")


KILL_AT: dict[str, Callable[[Sandbox], object]] = {
    "commits": lambda sandbox: len(sandbox.calls) > 0,
    "tenth change": lambda sandbox: changes(sandbox) > 9,
    "last deletion": lambda sandbox: not sandbox.world.listed("to be pruned"),
}


@pytest.mark.parametrize("moment", KILL_AT.values(), ids=KILL_AT)
def test_run_after_kill_9_completes_the_job(world: World, prune: Prune, moment: Callable[[Sandbox], object]) -> None:
    world.add_builds_around(30, REGIONS, datetime(2022, 2, 1))
    prune.write_record(RECORD)
    prune.faults.latency["ecs"] = 0.02
    with prune.started() as started:
        started.wait_until(moment)
        started.process.kill()
        started.process.wait()
    assert (prune.folder / "deleted_images.json").read_text() == RECORD
    assert_next_run_finishes(prune)


def test_interrupted_dry_run(prune: Prune) -> None:
    prune.faults.latency["ecs"] = 15
    with prune.started("--dry-run", "4.10") as started:
        started.wait_until(lambda sandbox: sandbox.under_way["ecs"])
        started.process.send_signal(signal.SIGTERM)
        assert started.finish(timeout=5).status == 143


def test_second_signal_does_no_harm(prune: Prune) -> None:
    prune.faults.latency["store"] = 15
    with prune.started() as started:
        started.wait_until(lambda sandbox: sandbox.under_way["store"])
        for signum in (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM):
            started.process.send_signal(signum)
        assert started.finish(timeout=5).status == 143
    assert len(prune.world.listed("to be pruned")) == 2 * len(REGIONS)


def test_record_is_whole_at_every_moment(prune: Prune) -> None:
    """So it is too after kill -9 while it is written."""
    entry = {"region": "us-east-1", "image": "m-1", "deleted": True}
    path = prune.write_record({f"411.86.{number:012}-0": [entry] for number in range(20_000)})
    contents = {path.read_text()}
    with prune.started() as started:
        while started.process.poll() is None:
            contents.add(path.read_text())
        assert started.finish().status == 0
    assert len(contents) == 2
    assert all(len(json.loads(content)) >= 20_000 for content in contents)
