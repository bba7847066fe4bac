"""Fixtures: the small world, which a test may change; main.py as a process in it; a part of main.py in this process."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from harness import REGIONS, Prune, small_world
from world import World

import main

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


@pytest.fixture
def region() -> Any:
    """A main.Region for a dry run, in this process; a test gives it its release and its calls."""
    environment = main.Environment("key ID", "secret", "", True, True)
    return main.Region(environment, main.parse_args(["--dry-run", "4.10"]), REGIONS[0], [])
