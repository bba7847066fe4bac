"""The record and the log: found writable before the first change, shared by runs at the same time, never lost."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, assert_refused, in_shell, recorded
from world import World, image_id

import main

OTHER_BUILD = "411.86.202207160000-0"


def test_two_runs_at_the_same_time_share_a_record(world: World, prune: Prune) -> None:
    world.release = "4.11"
    world.add_bootimage("411.86.202207150124-0", REGIONS)
    world.add_build(OTHER_BUILD, REGIONS)
    prune.write_record({"410.84.202001010000-0": []})
    prune.faults.latency["ecs"] = 0.1
    with (
        prune.started("--log-to-file", "4.10.log", "4.10") as one,
        prune.started("--log-to-file", "4.11.log", "4.11") as other,
    ):
        run, other_run = one.finish(timeout=60), other.finish(timeout=60)
    assert (run.status, other_run.status) == (0, 0)
    assert run.record.keys() >= {"410.84.202001010000-0", PUBLIC_BUILD, PRIVATE_BUILD, OTHER_BUILD}
    assert all(recorded(run).values())
    assert sorted(path.name for path in prune.folder.iterdir()) == ["4.10.log", "4.11.log", "deleted_images.json"]


def test_entries_that_another_run_added_meanwhile_are_kept(prune: Prune) -> None:
    path = prune.write_record({})
    prune.faults.latency["ecs"] = 0.1
    with prune.started() as started:
        started.wait_until(lambda sandbox: any(call.what == "DeleteImage" for call in sandbox.calls))
        path.write_text(json.dumps({"411.86.202207160000-0": []}))
        run = started.finish()
    assert run.record.keys() >= {"411.86.202207160000-0", PUBLIC_BUILD}


def test_run_waits_for_another_one_that_replaces_the_record(prune: Prune) -> None:
    prune.faults.latency["ecs"] = 0.1
    with prune.started() as started:
        started.wait_until(lambda sandbox: any(call.what == "DeleteImage" for call in sandbox.calls))
        folder = os.open(prune.folder, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(subprocess.TimeoutExpired):
            started.process.wait(timeout=4)
        os.close(folder)
        assert started.finish().status == 0


def test_folder_that_stays_locked_is_a_refusal(prune: Prune) -> None:
    prune.clock_speed = 20
    folder = os.open(prune.folder, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert_refused(prune, "another process has locked")
    os.close(folder)


def test_record_with_the_same_build_twice_is_refused(prune: Prune) -> None:
    entry = json.dumps({"region": "us-east-1", "image": image_id(PRIVATE_BUILD, "us-east-1"), "deleted": False})
    path = prune.write_record(f'{{"{PRIVATE_BUILD}": [{entry}], "{PRIVATE_BUILD}": []}}')
    assert_refused(prune, str(path), PRIVATE_BUILD, "twice")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["FIFO", "folder"])
def test_record_that_is_no_file_is_refused(prune: Prune, make: Callable[[Path], None]) -> None:
    make(prune.folder / "deleted_images.json")
    assert_refused(prune, str(prune.folder / "deleted_images.json"), "is not a file")


def test_log_that_cannot_be_written_is_a_refusal(world: World, prune: Prune) -> None:
    run = prune("--log-to-file", "/dev/full", "4.10")
    assert run.status == 1
    assert run.line("ERROR", "the log /dev/full cannot be written", "No space left", "nothing was changed")
    assert all(image.state == "kept" and image.tags == {} for image in world.images.values())


def test_dry_run_leaves_no_trace_beside_the_log(prune: Prune) -> None:
    assert prune("--dry-run", "4.10").status == 0
    assert [path.name for path in prune.folder.iterdir()] == ["aliyun_pruner.log"]


def test_refused_run_leaves_no_new_record(world: World, prune: Prune) -> None:
    world.branches.clear()
    assert prune().status == 1
    assert [path.name for path in prune.folder.iterdir()] == ["aliyun_pruner.log"]


def test_check_before_the_run_leaves_content_mode_and_time_of_the_record(world: World, prune: Prune) -> None:
    path = prune.write_record('{"410.84.202001010000-0":   []}')
    path.chmod(0o640)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    world.branches.clear()
    assert prune().status == 1
    assert path.read_text() == '{"410.84.202001010000-0":   []}'
    assert (path.stat().st_mode & 0o777, path.stat().st_mtime) == (0o640, 1_600_000_000)


def test_record_keeps_its_owner(prune: Prune) -> None:
    """Where the run may set it: a root container replaces the record of a user."""
    path = prune.write_record({})
    owner = 1234 if os.geteuid() == 0 else os.getuid()
    os.chown(path, owner, -1)
    assert prune().status == 0
    assert path.stat().st_uid == owner


def test_new_record_has_the_mode_of_the_umask(prune: Prune) -> None:
    previous = os.umask(0o027)
    try:
        assert prune().status == 0
    finally:
        os.umask(previous)
    assert (prune.folder / "deleted_images.json").stat().st_mode & 0o777 == 0o640


def test_messages_name_record_and_log_by_absolute_path(prune: Prune) -> None:
    (prune.folder / "host").mkdir()
    run = prune("--filename", "host/record.json", "--log-to-file", "host/run.log", "4.10")
    folder = Path(prune.folder) / "host"
    assert run.line(f"record: {folder / 'record.json'}, log: {folder / 'run.log'}")


def test_link_to_a_record_that_does_not_exist_yet_stays_a_link(prune: Prune) -> None:
    (prune.folder / "volume").mkdir()
    link, target = prune.folder / "deleted_images.json", prune.folder / "volume" / "record.json"
    link.symlink_to(target)
    assert prune().status == 0
    assert link.is_symlink()
    assert PRIVATE_BUILD in json.loads(target.read_text())


def test_nested_entry_is_refused(prune: Prune) -> None:
    entry = {"region": "us-east-1", "image": "m-1", "deleted": True, "note": {}}
    prune.write_record({PRIVATE_BUILD: [entry]})
    assert_refused(prune, "is not a record", PRIVATE_BUILD, "nested")


# A record that cannot be replaced, although root may write to it: mounts and sticky folders


def works(*command: str) -> bool:
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0


MOUNT = [
    "unshare",
    "--mount",
    *in_shell('mount --bind deleted_images.json deleted_images.json && exec "$@"'),
]
WITHOUT_FOWNER = ["setpriv", "--bounding-set=-fowner", "--inh-caps=-fowner"]


@pytest.mark.skipif(
    not works("unshare", "--mount", "mount", "--bind", "/tmp", "/tmp"), reason="needs the right to mount"
)
def test_record_that_is_mounted_as_a_single_file_is_refused(prune: Prune) -> None:
    prune.write_record({})
    assert_refused(prune, "cannot be replaced", "mount its folder instead", prefix=MOUNT)
    dry_run = prune("--dry-run", "4.10", prefix=MOUNT)
    assert dry_run.status == 0
    assert dry_run.line("WARNING", "cannot be replaced", "mount its folder instead")


@pytest.mark.skipif(not works(*WITHOUT_FOWNER, "true"), reason="needs the right to give up a capability")
def test_record_of_another_user_in_a_sticky_folder_is_refused(prune: Prune) -> None:
    path = prune.write_record({})
    os.chown(path, 1234, -1)
    os.chown(prune.folder, 1235, -1)
    prune.folder.chmod(0o1777)
    before, cloud = path.read_bytes(), copy.deepcopy(prune.world.images)
    run = prune(prefix=WITHOUT_FOWNER)
    assert run.status == 1
    assert run.line("ERROR", f"the record {path} cannot be replaced", "not permitted", "nothing was changed")
    assert prune.world.images == cloud
    assert path.read_bytes() == before


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to become another user")
@pytest.mark.parametrize(
    ("owner", "mode", "protected"),
    [(1235, 0o1777, True), (1234, 0o1777, False), (1235, 0o777, False), (None, 0o1777, False)],
    ids=["another user's", "own", "folder is not sticky", "no record yet"],
)
def test_dry_run_can_tell_whether_a_sticky_folder_protects_the_record(
    shared_folder: Path, owner: int | None, mode: int, protected: bool
) -> None:
    path = shared_folder / "deleted_images.json"
    if owner:
        path.touch()
        os.chown(path, owner, -1)
    shared_folder.chmod(mode)
    os.seteuid(1234)
    try:
        assert main.is_protected(str(path)) == protected
    finally:
        os.seteuid(0)


def test_dry_run_warns_of_a_missing_folder(prune: Prune) -> None:
    run = prune("--dry-run", "--filename", "missing/record.json", "4.10")
    assert run.status == 0
    assert run.line("WARNING", "cannot be replaced", "its folder does not exist")
