"""A disk that gets full: a limit on the size of files stands in for it, which binds every user."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from harness import REGIONS, Prune, Run, in_shell, recorded
from world import World

OTHER_RECORD: dict[str, list[object]] = {f"411.86.{number:012}-0": [] for number in range(100)}  # 3,000 bytes


def run_with_limit(prune: Prune, kibibytes: int, *args: str) -> Run:
    """Run main.py so that it cannot write files that are larger than this."""
    return prune(*args, "4.10", prefix=in_shell(f'ulimit -f {kibibytes}; exec "$@"'))


def files(prune: Prune) -> set[str]:
    return {path.name for path in prune.folder.iterdir()}


def test_record_that_does_not_fit_is_found_before_the_first_change(prune: Prune) -> None:
    path = prune.write_record(OTHER_RECORD)
    before = path.read_text()
    run = run_with_limit(prune, 2)
    assert run.status == 1
    assert run.line("ERROR", f"the record {path} cannot be replaced: ", "(nothing was changed)")
    assert run.sandbox.tunnels == {}
    assert path.read_text() == before
    assert files(prune) == {"aliyun_pruner.log", "deleted_images.json"}


def test_record_that_no_longer_fits_at_the_end_is_left_unchanged(world: World, prune: Prune) -> None:
    world.add_builds_around(60, REGIONS, datetime(2022, 2, 1))
    path = prune.write_record(OTHER_RECORD)
    before = path.read_text()
    run = run_with_limit(prune, 4, "--log-to-file", "/dev/null")
    assert run.status == 1
    assert run.line("ERROR", f"the record {path} could not be written: ", "the next run will find the deleted images")
    assert path.read_text() == before
    assert files(prune) == {"deleted_images.json"}
    assert world.listed("to be pruned") == []
    assert prune().status == 0
    entries = [entry for entries in json.loads(path.read_text()).values() for entry in entries]
    assert len(entries) == len([image for image in world.images.values() if not image.listed])
    assert all(entry["deleted"] for entry in entries)


@pytest.mark.parametrize("args", [(), ("--debug",)], ids=["plain", "debug"])
def test_nothing_is_deleted_once_the_log_no_longer_fits(world: World, prune: Prune, args: tuple[str, ...]) -> None:
    """What is left behind an image would be named nowhere."""
    world.add_builds_around(60, REGIONS, datetime(2022, 2, 1))
    run = run_with_limit(prune, 16, *args)
    assert run.status == 1
    assert run.line("ERROR", f"the log {prune.folder / 'aliyun_pruner.log'} is incomplete: ")
    assert run.line("ERROR", "us-east-1: ", "images wait for the next run: the log cannot be written: ")
    assert run.output.splitlines()[-1].startswith("INFO    ended with status 1 after")
    deleted = [image for image in world.images.values() if not image.listed]
    assert bool(deleted) == (args == ())
    assert [image.id for image in deleted if image.snapshots[0] not in run.log] == []
    assert {id for id, is_deleted in recorded(run).items() if is_deleted} <= {image.id for image in deleted}
    assert prune("--log-to-file", "other.log", "4.10").status == 0
    assert world.listed("to be pruned") == []
