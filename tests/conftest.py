"""Fixtures: the small world, which a test may change; main.py as a process in it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from harness import Prune, small_world
from world import World

# What started the tests may ignore these, as nohup and a shell's `&` do, and main.py would go on to ignore them.
for each in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(each) == signal.SIG_IGN:
        signal.signal(each, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", default="61-90", metavar="FIRST-LAST", help="the random worlds of test_random_runs.py")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        first, last = metafunc.config.getoption("seeds").split("-")
        metafunc.parametrize("seed", range(int(first), int(last) + 1))


@pytest.fixture
def world() -> World:
    return small_world()


@pytest.fixture
def prune(world: World, tmp_path: Path) -> Prune:
    return Prune(world, tmp_path)
