"""Fixtures: `world` is a small world that a test may change, `prune` runs main.py in it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from harness import (
    BOOTIMAGE,
    BUILD_WITHOUT_IMAGES,
    OLD_BOOTIMAGE,
    PRIVATE_BUILD,
    PUBLIC_BUILD,
    REGIONS,
    Prune,
)
from world import World

# What started the tests may ignore these, as nohup and a shell's `&` do, and main.py would go on to ignore them.
for each in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(each) == signal.SIG_IGN:
        signal.signal(each, signal.default_int_handler)


@pytest.fixture
def world() -> World:
    """4.10 with two bootimages and three builds that never became one, in two regions."""
    world = World()
    world.add_bootimage(OLD_BOOTIMAGE, REGIONS)
    world.add_bootimage(BOOTIMAGE, REGIONS)
    world.add_build(PUBLIC_BUILD, REGIONS, public=True)
    world.add_build(PRIVATE_BUILD, REGIONS)
    world.add_build(BUILD_WITHOUT_IMAGES)
    return world


@pytest.fixture
def prune(world: World, tmp_path: Path) -> Prune:
    return Prune(world, tmp_path)
