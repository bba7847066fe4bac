"""Run main.py in the sandbox, and check after each run what no run may do."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from faults import Call, Faults
from sandbox import Sandbox
from world import GITHUB_TOKEN, SECRETS, SECURITY_TOKEN, EcsImage, World, ecs_host

import main

MAIN = Path(__file__).parent.parent / "main.py"
PROMISED = {"bootimage", "pinned", "young build", "another account's", "another release's", "undated build"}

REGIONS = ["us-east-1", "cn-hangzhou"]
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "ALIBABA_CLOUD_CA_BUNDLE")
OLD_BOOTIMAGE = "410.84.202201251210-0"
BOOTIMAGE = "410.84.202207061638-0"
PUBLIC_BUILD = "410.84.202203010900-0"
PRIVATE_BUILD = "410.84.202205171530-0"
BUILD_WITHOUT_IMAGES = "410.84.202206021115-0"


def small_world() -> World:
    """4.10 with two bootimages and three builds that never became one, in two regions."""
    world = World()
    world.add_bootimage(OLD_BOOTIMAGE, REGIONS)
    world.add_bootimage(BOOTIMAGE, REGIONS)
    world.add_build(PUBLIC_BUILD, REGIONS, public=True)
    world.add_build(PRIVATE_BUILD, REGIONS)
    world.add_build(BUILD_WITHOUT_IMAGES)
    return world


def make_seen(build: str = PRIVATE_BUILD, **changes: Any) -> main.Seen:
    """An image of this build that may be deleted, as DescribeImages shows it, but for the changes."""
    fields: dict[str, Any] = {"own": True, "public": False, "in_use": False, "pin": "", "tag": "false"}
    fields |= {"name": f"rhcos-{build}", "snapshots": ("s-1",), "complete": True}
    return main.Seen(**(fields | changes))


def make_release(**changes: Any) -> main.Release:
    """4.10 with one bootimage, m-named, and three builds, but for the changes."""
    named = {"m-named": main.Image(REGIONS[0], "m-named", BOOTIMAGE)}
    history = main.History("4.10", frozenset({BOOTIMAGE}), named, [])
    builds: main.Builds = {build: {} for build in (BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD)}
    fields = {"history": history, "builds": builds, "missing": [], "uploads": {}, "bootimages": named}
    return main.Release(**(fields | {"listed": {named["m-named"]: True}, "read": frozenset()} | changes))


def make_region(ecs: Any, release: main.Release | None = None, witness: Sequence[str] = ("m-witness",)) -> main.Region:
    """A region of main.py in this process, which has just looked, with these calls in place of ECS."""
    environment = main.Environment("key ID", "secret", "", "", True, True)
    region = main.Region(REGIONS[0], environment, main.parse_args(["4.10"]))
    ecs.client = region.ecs.client
    region.ecs, region.release, region.witness = ecs, release or make_release(), list(witness)
    region.listed = region.release.listed
    return region


@dataclass
class Run:
    """A run of main.py: what it printed and left, and what the services saw of it."""

    status: int
    output: str
    folder: Path
    sandbox: Sandbox

    @property
    def record(self) -> Any:
        return json.loads((self.folder / "deleted_images.json").read_text())

    @property
    def log(self) -> str:
        return (self.folder / "aliyun_pruner.log").read_text()

    @property
    def recorded(self) -> dict[str, bool]:
        """Whether each image on record is deleted."""
        return {entry["image"]: entry["deleted"] for entries in self.record.values() for entry in entries}

    def calls(self, service: str, what: str = "", where: str = "") -> list[Call]:
        """The requests to a service whose path or operation contains `what`, and whose host or region `where`."""
        calls = [call for call in self.sandbox.calls if call.service == service]
        return [call for call in calls if what in call.what and where in call.where]

    def line(self, *words: str) -> str:
        """The one line of output that contains all these words."""
        lines = [line for line in self.output.splitlines() if all(word in line for word in words)]
        assert len(lines) == 1, f"{len(lines)} lines with {words} in:\n{self.output}"
        return lines[0]

    def assert_record_is_true(self) -> None:
        """No image is on record as deleted while it is in the cloud."""
        deleted = {id for id, is_deleted in self.recorded.items() if is_deleted}
        assert deleted & self.sandbox.world.kept_images() == set()

    def assert_all_pruned(self) -> None:
        assert (self.status, self.output.count("ERROR")) == (0, 0)
        assert self.sandbox.world.listed("to be pruned") == []
        assert all(self.recorded.values())


@dataclass
class Started:
    """main.py under way."""

    process: subprocess.Popen[str]
    folder: Path
    sandbox: Sandbox

    def wait_until(self, condition: Callable[[Sandbox], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition(self.sandbox):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def run(self, output: str) -> Run:
        """The run, once it has ended."""
        return Run(self.process.returncode, output, self.folder, self.sandbox)

    def finish(self, timeout: float = 120) -> Run:
        """Wait for the end, and check what no run may ever do. There is no output if stdout went elsewhere."""
        output, _ = self.process.communicate(timeout=timeout)
        run = self.run(output or "")
        check_promises(self.sandbox)
        check_secrets(run)
        assert "Traceback" not in run.output
        assert self.sandbox.leaks == []
        return run


@contextlib.contextmanager
def start(
    sandbox: Sandbox, folder: Path, command: Sequence[str], env: Mapping[str, str | None] = {}, **options: Any
) -> Iterator[Started]:
    """Start a command in the sandbox; it is ended if it is still running at the end of the context.

    The options are those of Popen. Standard error goes where standard output goes.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={name: value for name, value in {**sandbox.environment(), **env}.items() if value is not None},
        stderr=subprocess.STDOUT,
        text=True,
        **{"stdout": subprocess.PIPE, **options},
    )
    with process:
        try:
            yield Started(process, folder, sandbox)
        finally:
            process.kill()


@dataclass
class Prune:
    """Runs main.py in the world, in a folder of its own."""

    world: World
    folder: Path
    faults: Faults = field(default_factory=Faults)
    clock_speed: float = 1.0

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def __call__(self, *args: str, **options: Any) -> Run:
        with self.started(*args, **options) as started:
            return started.finish()

    @contextlib.contextmanager
    def started(self, *args: str, prefix: Sequence[str] = (), **options: Any) -> Iterator[Started]:
        """Start main.py, by way of another command if there is a prefix; the options are those of `start`."""
        with Sandbox(self.world, self.faults, self.clock_speed) as sandbox:
            command = [*prefix, sys.executable, str(MAIN), *(args or ["4.10"])]
            with start(sandbox, self.folder, command, **options) as started:
                yield started

    def assert_refused(self, *words: str, **options: Any) -> Run:
        """Run, and check that it was refused for the reason that these words tell, and left cloud and files alone."""
        path = self.folder / "deleted_images.json"
        record = path.read_bytes() if path.is_file() else None
        files, cloud, started = self.files, copy.deepcopy(self.world.images), time.monotonic()
        run = self(**options)
        assert run.status == 1
        assert (time.monotonic() - started) * self.clock_speed < 180
        assert run.line("ERROR", "nothing was changed", *words)
        assert run.output.count("ERROR") == 1
        assert (path.read_bytes() if path.is_file() else None) == record
        assert self.world.images == cloud
        assert {call.what for call in run.calls("ecs")} <= {"DescribeImages"}
        assert self.files == files | {"aliyun_pruner.log"}
        return run

    def assert_next_run_finishes(self, *args: str) -> Run:
        """Once nothing goes wrong any more, a run deletes and records what is left, and what earlier runs deleted."""
        self.faults = Faults()
        run = self(*args)
        run.assert_all_pruned()
        run.assert_record_is_true()
        assert {image.id for image in self.world.images.values() if not image.listed} <= run.recorded.keys()
        if "--delete-snapshots" in args:
            assert self.world.snapshots_left() == self.world.kept_images()
        return run

    def write_record(self, content: str | dict[str, Any]) -> Path:
        path = self.folder / "deleted_images.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path


def in_shell(script: str) -> list[str]:
    """A prefix that runs a line of bash in which "$@" is the command that follows."""
    return ["bash", "-o", "pipefail", "-c", script, "bash"]


def check_promises(sandbox: Sandbox) -> None:
    """Check that nothing was deleted, made private or tagged that a run must leave, nor a closed region called."""
    for image in sandbox.world.images.values():
        check_image(image)
    for snapshot in sandbox.world.snapshots.values():
        image_of = sandbox.world.images.get(snapshot.image_id)
        assert snapshot.deleted_at is None or image_of is None or image_of.deleted_at is not None, snapshot
    assert not set(map(ecs_host, main.CLOSED_REGIONS)) & sandbox.tunnels.keys()


def check_image(image: EcsImage) -> None:
    if image.kind in PROMISED:
        assert image.tags.get("bootimage") != "false" or image.kind == "bootimage", image
    if image.kind in PROMISED or image.usage == "instance":
        assert image.deleted_at is None, image
        assert image.public or not image.was_public, image
    if image.deleted_at is not None:
        assert [v.casefold() for key, v in image.tags.items() if key.casefold() == "bootimage"] == ["false"], image
        assert not image.public, image


def check_secrets(run: Run) -> None:
    """No secret in the output, nor in any file that the run left, not even in the encoding of a URL."""
    texts = [run.output] + [path.read_text(errors="replace") for path in run.folder.rglob("*") if path.is_file()]
    for text in map(unquote, [*texts, *map(unquote, texts)]):
        for secret in (*SECRETS.keys(), *SECRETS.values(), SECURITY_TOKEN, GITHUB_TOKEN):
            assert secret not in text
        assert not run.sandbox.ecs.signatures.intersection(re.findall(r"[A-Za-z0-9+/]{27}=", text))
