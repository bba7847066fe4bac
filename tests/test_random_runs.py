"""Random worlds, random faults, random runs: `python tests/random_runs.py FIRST LAST` runs as many as you like."""

from __future__ import annotations

import pytest
from random_runs import run_case


@pytest.mark.parametrize("seed", range(1, 31))
def test_what_must_hold_in_a_random_world(seed: int) -> None:
    run_case(seed)
