"""Fixtures: the small world, which a test may change; main.py as a process in it; the variables that it reads."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from harness import CA_VARIABLES, Prune, small_world
from world import KEY_ID, SECRET, World

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
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable that main.py reads is set but the key."""
    for name in (*CA_VARIABLES, *main.PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in zip(main.SECRETS, (KEY_ID, SECRET, "", "")):
        monkeypatch.setenv(name, value)
    return monkeypatch
