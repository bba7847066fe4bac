"""The record: what is on it, whole at every moment, shared by runs, and never lost. The log: no change without it."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from faults import Call
from harness import BUILD_WITHOUT_IMAGES, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, in_shell, make_release, make_seen
from world import World, days_ago, image_id

import main
from main import Image, ImageJob, Seen, State

REGION = REGIONS[0]
NEW_BUILD, OTHER_BUILD = "410.84.202206010000-0", "411.86.202207160000-0"
SEEN = make_seen()


def entry(build: str, deleted: bool, region: str = REGION) -> dict[str, Any]:
    return {"region": region, "image": image_id(build, region), "deleted": deleted}


UPDATES: dict[str, tuple[bool, State | None, Seen | None, bool]] = {
    "deleted": (False, State.DELETED, None, True),
    "deleted, but seen": (False, State.DELETED, SEEN, False),
    "found gone": (False, State.GONE, None, True),
    "failed": (False, State.FAILED, SEEN, False),
    "deleted, but not confirmed": (False, State.ACCEPTED, SEEN, False),
    "true, but seen": (True, State.KEPT, SEEN, False),
    "true, and not seen": (True, State.FAILED, None, True),
    "true, and not looked at": (True, None, None, True),
    "true, and not listed, which proves nothing": (True, State.KEPT, None, True),
    "not listed, which proves nothing": (False, State.KEPT, None, False),
}


@pytest.mark.parametrize(("before", "state", "seen", "after"), UPDATES.values(), ids=UPDATES)
def test_entry_says_if_it_is_gone(before: bool, state: State | None, seen: Seen | None, after: bool) -> None:
    job = ImageJob(Image(REGION, image_id(PRIVATE_BUILD, REGION)), SEEN)
    job.listed = seen is not None
    job.settle(state or State.OPEN)
    record = {PRIVATE_BUILD: [{**entry(PRIVATE_BUILD, before), "note": 1}], OTHER_BUILD: []}
    updated = main.update_record(record, make_release(uploads={PRIVATE_BUILD: []}), [job] if state else [])
    assert updated == {PRIVATE_BUILD: [{**entry(PRIVATE_BUILD, after), "note": 1}], OTHER_BUILD: []}


def test_record_has_each_build_that_was_read_and_the_next_run_adds_new_ones_only(world: World, prune: Prune) -> None:
    world.add_build(days_ago(3), REGIONS, "young build")
    images = {build: [entry(build, True, region) for region in REGIONS] for build in (PUBLIC_BUILD, PRIVATE_BUILD)}
    assert prune().record == {**images, BUILD_WITHOUT_IMAGES: []}
    new = world.add_build(NEW_BUILD, ["ap-south-1", REGION])[1]  # The first one of these regions is closed.
    run = prune()
    entries = [entry(NEW_BUILD, True, "ap-south-1"), entry(NEW_BUILD, True)]
    assert run.record == {**images, BUILD_WITHOUT_IMAGES: [], NEW_BUILD: entries}
    assert not any(run.calls("store", build) for build in (PUBLIC_BUILD, PRIVATE_BUILD, BUILD_WITHOUT_IMAGES))
    assert [call.ids for call in run.calls("ecs", "DeleteImage")] == [(new.id,)]


def test_record_of_the_first_script_is_believed_as_far_as_the_cloud_shows(world: World, prune: Prune) -> None:
    """It wrote one line, and put builds without images on record as empty lists."""
    untried, there, gone = world.add_build(NEW_BUILD, [REGION])[0], *world.images_of(PRIVATE_BUILD)
    del world.images[gone.id]
    record = {
        "410.84.202001010000-0": [],
        NEW_BUILD: [{**entry(NEW_BUILD, False), "note": {"by": 1}}],
        PRIVATE_BUILD: [entry(PRIVATE_BUILD, True, region) for region in REGIONS],
    }
    prune.write_record(record)
    run = prune()
    assert not untried.listed and not there.listed
    assert list(run.record)[:3] == list(record)
    assert run.record[NEW_BUILD] == [{**entry(NEW_BUILD, True), "note": {"by": 1}}]
    assert all(run.recorded.values())
    assert run.calls("store", NEW_BUILD) == []


def test_link_stays_a_link_and_the_mode_is_kept(prune: Prune) -> None:
    target = prune.folder / "elsewhere.json"
    target.write_text("{}")
    target.chmod(0o640)
    (prune.folder / "deleted_images.json").symlink_to(target)
    prune()
    assert (prune.folder / "deleted_images.json").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert PUBLIC_BUILD in json.loads(target.read_text())
    assert prune.files == {"aliyun_pruner.log", "deleted_images.json", "elsewhere.json"}


def test_record_is_whole_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    main.check_replaceable(str(path))
    assert list(tmp_path.iterdir()) == []
    contents = [json.dumps({f"411.86.{number:012}-0": [] for number in range(size)}) for size in (20_000, 30_000)]
    path.write_text(contents[0])

    def write() -> None:
        for _ in range(25):
            main.update_file(str(path), lambda _: contents[0].encode())
            main.update_file(str(path), lambda _: contents[1].encode())

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_two_runs_at_once_share_a_record_and_keep_what_others_wrote_meanwhile(world: World, prune: Prune) -> None:
    world.release = "4.11"
    world.add_bootimage("411.86.202207150124-0", REGIONS)
    world.add_build(OTHER_BUILD, REGIONS)
    prune.faults.latency["ecs"] = 0.05
    calls = itertools.count()

    def write(call: Call) -> None:
        if call.what == "TagResources" and next(calls) == 0:
            prune.write_record({NEW_BUILD: []})

    prune.faults.on_call = write
    with prune.started("--log-to-file", "a", "4.10") as one, prune.started("--log-to-file", "b", "4.11") as other:
        run, other_run = one.finish(), other.finish()
    assert (run.status, other_run.status) == (0, 0)
    assert run.record.keys() >= {NEW_BUILD, PUBLIC_BUILD, PRIVATE_BUILD, OTHER_BUILD}
    assert all(run.recorded.values())
    assert prune.files == {"a", "b", "deleted_images.json"}


def test_record_that_another_run_replaces_while_the_new_one_is_made_keeps_both(tmp_path: Path) -> None:
    """Not every file system can lock its folder."""
    path, others = str(tmp_path / "record.json"), [OTHER_BUILD, PRIVATE_BUILD]

    def update(record: main.Record) -> main.Record:
        if others:
            other = others.pop()
            assert main.save_record(path, lambda now: {**now, other: []}) == []
        return {**record, NEW_BUILD: []}

    with patch.object(fcntl, "flock", side_effect=OSError):
        assert main.save_record(path, update) == []
    assert main.load_record(path).keys() == {NEW_BUILD, OTHER_BUILD, PRIVATE_BUILD}


def test_record_that_others_replace_all_the_time_is_left_to_them_and_that_is_said(tmp_path: Path) -> None:
    path = str(tmp_path / "record.json")

    def update(record: main.Record) -> main.Record:
        Path(path).write_text(json.dumps({**record, f"410.84.{time.time_ns() % 10**12:012}-0": []}))
        return {NEW_BUILD: []}

    problems = main.save_record(path, update)
    assert len(problems) == 1 and "could not be written, and is unchanged" in problems[0]
    assert len(main.load_record(path)) == 5
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


def test_file_system_without_modes_gets_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFS, Azure Files and S3."""
    path = tmp_path / "record.json"
    path.write_text("{}")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chmod", refuse)
    assert main.save_record(str(path), lambda _: {NEW_BUILD: []}) == []
    assert main.load_record(str(path)) == {NEW_BUILD: []}
    main.check_replaceable(str(path))


@pytest.mark.parametrize(("held", "waited"), [(0.5, 0.5), (60.0, 10.0)])
def test_lock_of_the_folder_is_waited_for_ten_seconds_at_most(tmp_path: Path, held: float, waited: float) -> None:
    path, pauses = str(tmp_path / "record.json"), list[float]()
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if sum(pauses) >= held:
            fcntl.flock(folder, fcntl.LOCK_UN)

    with patch.object(time, "sleep", sleep):
        assert main.save_record(path, lambda record: {**record, NEW_BUILD: []}) == []
    os.close(folder)
    assert sum(pauses) == pytest.approx(waited, abs=0.11) and main.load_record(path) == {NEW_BUILD: []}


@pytest.mark.parametrize(("kibibytes", "words"), [(2, "nothing was changed"), (4, "is unchanged")])
def test_record_that_does_not_fit_on_the_disk_stays_as_it_was(prune: Prune, kibibytes: int, words: str) -> None:
    prune.world.add_builds_around(60, REGIONS)
    path = prune.write_record(before := json.dumps({f"411.86.{number:012}-0": [] for number in range(100)}, indent=1))
    run = prune("--log-to-file", "/dev/null", "4.10", prefix=in_shell(f'ulimit -f {kibibytes}; exec "$@"'))
    assert run.status == 1 and run.line("ERROR", f"the record {path}", words)
    assert bool(run.sandbox.calls) == (prune.world.listed("to be pruned") == []) == (kibibytes == 4)
    assert ("other images: 84 images = 84 deleted" in run.output) == (kibibytes == 4)
    assert (path.read_text(), prune.files) == (before, {"deleted_images.json"})


def test_full_disk_is_noticed_at_the_start_also_if_there_is_no_record(prune: Prune) -> None:
    run = prune("--log-to-file", "/dev/null", "4.10", prefix=in_shell('ulimit -f 0; exec "$@"'))
    assert run.line("ERROR", "cannot be replaced", "nothing was changed") and run.sandbox.calls == []


def test_record_that_is_nested_too_deeply_to_be_written_again_is_told(tmp_path: Path) -> None:
    def nest(_: main.Record) -> main.Record:
        raise RecursionError("maximum recursion depth exceeded")

    assert "is unchanged: maximum recursion depth" in main.save_record(str(tmp_path / "record.json"), nest)[0]
