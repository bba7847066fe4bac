"""On a terminal: what matters, above one status line. Anywhere else: every line."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from harness import PUBLIC_BUILD, Prune, Started
from world import image_id

CLEAR = "\r\x1b[K"


class Screen:
    """main.py on a terminal of 80 columns."""

    def __init__(self, started: Started, terminal: int) -> None:
        self.started = started
        self.process = started.process
        self.terminal = terminal
        self.text = ""

    def read(self) -> None:
        with contextlib.suppress(OSError):
            self.text += os.read(self.terminal, 1_000_000).decode()

    def read_until(self, condition: Callable[[str], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text
            self.read()
            time.sleep(0.01)

    def finish(self) -> int:
        self.read_until(lambda _: self.process.poll() is not None)
        self.read()
        return self.started.finish().status

    def lines(self) -> list[str]:
        """What is left on the terminal, line by line; a status line is not, unless nothing cleared it."""
        return [line.rpartition(CLEAR)[2] for line in self.text.replace("\r\n", "\n").split("\n")]

    def status_lines(self) -> list[str]:
        return re.findall(r"((?:[a-z.]+ )+\d[^\r\n]*)\r\x1b", self.text)


@contextlib.contextmanager
def on_terminal(prune: Prune, *args: str) -> Iterator[Screen]:
    terminal, other_end = pty.openpty()
    os.set_blocking(terminal, False)
    environment = {"COLUMNS": "80"}
    with prune.started(*args, env=environment, stdin=other_end, stdout=other_end, start_new_session=True) as started:
        os.close(other_end)
        yield Screen(started, terminal)
    os.close(terminal)


def run_on_terminal(prune: Prune, *args: str) -> Screen:
    with on_terminal(prune, *args) as screen:
        assert screen.finish() == 0
    return screen


def test_terminal_shows_the_summary_but_no_line_for_each_image(prune: Prune) -> None:
    screen = run_on_terminal(prune, "4.10")
    image = image_id(PUBLIC_BUILD, "us-east-1")
    assert "INFO    images deleted: 4" in screen.lines()
    assert image not in screen.text
    assert f"{image} ({PUBLIC_BUILD}) deleted" in (prune.folder / "aliyun_pruner.log").read_text()


def test_status_line_is_rewritten_in_place_within_80_columns_and_cleared_at_the_end(prune: Prune) -> None:
    prune.faults.calls_a_minute = 1
    prune.clock_speed = 20
    screen = run_on_terminal(prune, "4.10")
    statuses = screen.status_lines()
    assert any(
        re.fullmatch(r"images \d/8, failed 0, 2 regions throttled until [0-9:]{8}", status) for status in statuses
    )
    assert all(len(status) < 78 for status in statuses)
    assert all(line == "" or re.match(r"(INFO|WARNING|ERROR) ", line) for line in screen.lines())
    assert screen.lines()[-1] == ""


def test_debug_shows_every_line_on_a_terminal(prune: Prune) -> None:
    screen = run_on_terminal(prune, "--debug", "4.10")
    assert f"{image_id(PUBLIC_BUILD, 'us-east-1')} ({PUBLIC_BUILD}) deleted" in screen.text
    assert "DEBUG" in screen.text


def test_dry_run_names_each_image_on_a_terminal(prune: Prune) -> None:
    assert "would be tagged bootimage=false" in run_on_terminal(prune, "--dry-run", "4.10").text


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP], ids=lambda signum: signum.name)
def test_interrupt_leaves_the_terminal_clean(prune: Prune, signum: signal.Signals) -> None:
    prune.faults.latency["ecs"] = 1.5
    with on_terminal(prune) as screen:
        screen.read_until(lambda text: "regions checked" in text)
        screen.process.send_signal(signum)
        assert screen.finish() == 128 + signum
    lines = screen.lines()
    assert lines[-1] == ""
    assert lines[-2].startswith(f"INFO    ended with status {128 + signum} after ")
    assert lines[-3].startswith(f"ERROR   interrupted by {signum.name} (")
