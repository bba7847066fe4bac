"""Random worlds, random faults, random runs: what must hold after each run of main.py, whatever happens.

    pytest tests/test_random_runs.py --seeds 1-500

A case is a seed. It makes a world and the record of an earlier run, then some runs in which things go wrong (some are
killed, some are two at once, in some a person pins and deletes meanwhile), then runs in which nothing does.
What must hold is derived from the world alone.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import random
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from faults import FORBIDDEN, HANGS, NO_IMAGES, NO_SNAPSHOTS, OPERATIONS, PASSING, WRONG, Answer, Call, Fault, Faults
from harness import MAIN, Started, check_secrets, start
from sandbox import Sandbox
from world import KEY_ID, OTHER_KEY_ID, EcsImage, EcsSnapshot, World, build_id, days_ago, ecs_host, image_id, meta_path

import main

NAMED_REGIONS = ["us-east-1", "cn-hangzhou"]  # rhcos.json names images there: witnesses
NEW_REGION = "eu-west-1"  # rhcos.json names none there
CLOSED_REGION = "ap-south-1"
WORLD_REGIONS = [*NAMED_REGIONS, NEW_REGION, CLOSED_REGION]
DIRECTORIES = ["releases/rhcos-4.10", "prod/streams/4.10/builds"]  # the first one is named by rhcos.json
BOOTIMAGES = ["410.84.202112040202-0", "410.84.202205191234-0", "410.84.202210040010-0"]
MARK = ("rhcos-aliyun-pruner", "4.10")
BUILD_ID = re.compile(r"[0-9]+\.[0-9]+\.[0-9]{12}-[0-9]+")


class Case:
    """A world, what a person and main.py have done in it, and what must hold."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.record_path = folder / "deleted_images.json"
        self.world = World()
        self.deleted_by_person: set[str] = set()
        self.swept = False  # A run had --delete-snapshots.
        self.processes: list[Started] = []  # under way
        self.logs = 0
        self.odd_bootimage = False
        self.recorded: dict[str, list[dict[str, Any]]] = {}
        self.make_world()
        # Whether each image that somebody pins was public then, by ID.
        self.pinned = {image.id: image.public for image in self.world.images.values() if is_pinned(image.tags)}
        self.make_record()

    # The world

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def make_world(self) -> None:
        for build in BOOTIMAGES[: self.random.randint(1, 3)]:
            self.add_bootimage(build)
        special = (days_ago(self.random.uniform(0, main.YOUNG.days - 1)), "410.84.test-0", "411.86.202207150124-0")
        old = [self.build(number) for number in range(self.random.randint(2, 9))]
        for build in [*old, *(build for build in special if self.chance(0.6))]:
            self.add_build(build)
        for image in self.world.images.values():
            self.vary_image(image)
            if image.listed and self.chance(0.07):
                self.list_again(image)
        for image in [image for image in self.world.listed() if not self.must_stay(image)]:
            if self.chance(0.08):
                self.delete_in_earlier_run(image)
            elif self.chance(0.08):
                image.tags["BootImage"] = "false"
        self.add_what_no_list_names()
        for snapshot in self.world.snapshots.values():
            self.vary_snapshot(snapshot)

    def build(self, number: int) -> str:
        """The ID of an old build."""
        return build_id("4.10", datetime(2021, 12, 5, 3, 7) + timedelta(days=11 * number))

    def add_bootimage(self, build: str) -> None:
        self.world.add_bootimage(build, [*NAMED_REGIONS, CLOSED_REGION])
        if self.chance(0.3):
            version = copy.deepcopy(self.world.versions[self.world.branches["release-4.10"][0]])
            version["architectures"]["s390x"]["artifacts"]["qemu"] = {"release": self.build(5)}
            self.world.add_commit(version)
        if self.chance(0.4):  # It uploaded more than rhcos.json names.
            region = self.random.choice([NEW_REGION, *NAMED_REGIONS])
            image = EcsImage(image_id(build, f"{region} again"), region, build, "bootimage")
            if self.chance(0.5):
                image.name, self.odd_bootimage = f"rhcos-{self.build(0)}", True
            self.world.add_image(image)
            self.world.metas[meta_path(build)]["aliyun"].append({"name": region, "id": image.id})

    def add_build(self, build: str) -> None:
        regions = [region for region in WORLD_REGIONS if self.chance(0.8)] if self.chance(0.85) else []
        arches = self.random.choice([["x86_64"], ["x86_64", "aarch64"], ["s390x", "aarch64"]])
        directory, tombstone = self.random.choice(DIRECTORIES), self.chance(0.2)
        options: dict[str, Any] = {"public": self.chance(0.5), "disks": self.random.choice([1, 1, 2])}
        self.world.add_build(build, regions, directory=directory, arches=arches, tombstone=tombstone, **options)
        if tombstone and not regions:  # coreos-assembler has deleted it.
            for arch in arches:
                del self.world.metas[meta_path(build, arch, directory)]

    def vary_image(self, image: EcsImage) -> None:
        if self.chance(0.15):
            image.status = self.random.choice(["Creating", "Waiting", "UnAvailable", "CreateFailed", "Deprecated"])
        if self.chance(0.06):
            image.tags[self.random.choice(["bootimage", "Bootimage"])] = self.random.choice(["true", "True"])
        if self.chance(0.06):
            image.usage = self.random.choice(["instance", None])
        if image.status == "Available" and self.chance(0.04):
            image.disks_shown = False
        if image.build in BOOTIMAGES or image.region == CLOSED_REGION:
            return
        if self.chance(0.06):
            image.name = self.random.choice(["rhcos", "copy of 410.84"])
        elif self.chance(0.08):
            other = self.random.choice(list(self.world.images.values()))
            image.name = f"rhcos-{other.build}"
        elif self.chance(0.05):
            image.owner, image.public, image.was_public = OTHER_KEY_ID, True, True
            for snapshot in self.world.snapshots_of(image):
                snapshot.owner = OTHER_KEY_ID

    def delete_in_earlier_run(self, image: EcsImage) -> None:
        image.public, image.deleted_at = False, 0.0
        image.tags["bootimage"] = "false"
        for snapshot in self.world.snapshots_of(image):
            if self.chance(0.7):
                snapshot.tags[MARK[0]] = MARK[1]
            else:
                snapshot.deleted_at = 0.0

    def list_again(self, image: EcsImage) -> None:
        """Let another build's meta.json list the image, too."""
        metas = [meta for path, meta in self.world.metas.items() if path.startswith(DIRECTORIES[1])]
        if metas:
            self.random.choice(metas).setdefault("aliyun", []).append({"name": image.region, "id": image.id})

    def add_what_no_list_names(self) -> None:
        """A replication failed, or it is something else."""
        if self.chance(0.5):
            return
        for number, name in enumerate([f"rhcos-{self.build(0)}", "my-server"]):
            region = self.random.choice([*NAMED_REGIONS, NEW_REGION])
            self.world.add_image(EcsImage(f"m-unlisted{number}", region, "", "", name=name))
        other = EcsSnapshot("s-other-release", NAMED_REGIONS[0], "m-other-release", tags={MARK[0]: "4.11"})
        self.world.snapshots[other.id] = other

    def vary_snapshot(self, snapshot: EcsSnapshot) -> None:
        if self.chance(0.05):
            snapshot.tags["bootimage"] = "true"
        elif self.chance(0.05):
            snapshot.disk = True
        elif self.chance(0.05):
            staying = [image for image in self.world.listed("bootimage") if image.region == snapshot.region]
            if staying and snapshot.owner == KEY_ID:
                staying[0].snapshots.append(snapshot.id)

    def make_record(self) -> None:
        """Some builds, each with all that it uploaded, some of it deleted by then."""
        for build, images in self.uploads.items():
            if self.is_prunable(build) and self.chance(0.25):
                entries = [{"region": region, "image": id, "deleted": self.is_gone(id)} for region, id in images]
                for entry in entries:
                    image = self.world.images.get(str(entry["image"]))
                    if image and image.owner == KEY_ID and self.chance(0.2):
                        entry["deleted"] = True
                    if self.chance(0.3):
                        entry["deleted"] = False
                self.recorded[build] = entries
        if self.recorded:
            self.record_path.write_text(json.dumps(self.recorded))

    # What is true of the world

    @cached_property
    def listed_builds(self) -> set[str]:
        listings = [*self.world.listings.values(), *self.world.tombstones.values()]
        return {entry["id"] for listing in listings for entry in listing}

    @cached_property
    def uploads(self) -> dict[str, list[tuple[str, str]]]:
        """Region and ID of what each listed build uploaded, by its meta.json of each directory and architecture."""
        uploads: dict[str, list[tuple[str, str]]] = {build: [] for build in sorted(self.listed_builds)}
        for path, meta in self.world.metas.items():
            if path.endswith(("/x86_64/meta.json", "/aarch64/meta.json")):
                uploads[meta["buildid"]] += [(image["name"], image["id"]) for image in meta.get("aliyun", [])]
        return {build: list(dict.fromkeys(images)) for build, images in uploads.items()}

    @cached_property
    def named_builds(self) -> set[str]:
        return set(re.findall(r'"release": "([^"]+)"', json.dumps(self.world.versions)))

    @cached_property
    def bootimage_ids(self) -> set[str]:
        """What rhcos.json names, and what the builds that it names uploaded."""
        named = set(re.findall(r'"image": "([^"]+)"', json.dumps(self.world.versions)))
        return named | {id for build in self.named_builds for _, id in self.uploads.get(build, [])}

    def is_prunable(self, build: str) -> bool:
        """Whether the build is listed, old, of this release, dated, and no bootimage."""
        if not BUILD_ID.fullmatch(build) or not build.startswith("410.") or build not in self.listed_builds:
            return False
        age = datetime.now(timezone.utc) - datetime.strptime(build.split(".")[2][:12] + "+0000", "%Y%m%d%H%M%z")
        return age > main.YOUNG and build not in self.named_builds

    def must_stay(self, image: EcsImage) -> bool:
        candidates = {entry["image"] for entries in self.recorded.values() for entry in entries}
        for build, images in self.uploads.items():
            if self.is_prunable(build):
                candidates.update(id for _, id in images)
        named = BUILD_ID.search(image.name)
        return (
            image.id in self.bootimage_ids
            or image.id not in candidates
            or is_pinned(image.tags)
            or image.owner != KEY_ID
            or image.usage != "none"
            or not image.disks_shown
            or not named
            or not self.is_prunable(named[0])
        )

    def is_gone(self, id: str) -> bool:
        return id not in self.world.images or not self.world.images[id].listed

    def deleted(self) -> list[EcsImage]:
        """The images that a run deleted, in this case or earlier."""
        deleted = [image for image in self.world.images.values() if image.deleted_at is not None]
        return [image for image in deleted if image.id not in self.deleted_by_person]

    def sweepable(self, snapshot: EcsSnapshot) -> bool:
        """Whether a run with --delete-snapshots has to delete it once its image is gone."""
        used = any(image.listed and snapshot.id in image.snapshots for image in self.world.images.values())
        return not (is_pinned(snapshot.tags) or snapshot.disk or used or snapshot.region == CLOSED_REGION)

    # Runs in which things go wrong

    def run_with_faults(self) -> None:
        faults = self.make_faults()
        dry_run, sweep = self.chance(0.15), self.chance(0.4)
        args = ["--dry-run"] * dry_run + ["--delete-snapshots"] * sweep + ["--debug"] * self.chance(0.2)
        before = copy.deepcopy((self.world.images, self.world.snapshots)), self.read_record()
        count = self.random.choice([1, 1, 1, 1, 2])
        faults.on_call = self.plan_actions(person=not dry_run and count == 1)
        env = {"SANDBOX_TIMEOUT_SPEED": "60" if any(fault.answer == HANGS for fault in faults.failing) else "1"}
        if self.chance(0.4):
            env["GITHUB_TOKEN"] = ""
        statuses = self.run(faults, args, env, 60, count)
        if dry_run:
            assert (self.world.images, self.world.snapshots) == before[0], "a dry run changed the cloud"
            assert self.read_record() == before[1], "a dry run changed the record"
        elif statuses == {0} and not any(fault.what.startswith("Describe") for fault in faults.failing):
            self.check_success(sweep)

    def plan_actions(self, person: bool) -> Callable[[Call], None]:
        """What is done when requests arrive: perhaps the run is killed, perhaps a person is active."""
        actions: dict[int, Callable[[Call], None]] = {}
        signum = self.random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])

        def kill(_: Call) -> None:
            for started in self.processes:
                started.process.send_signal(signum)

        if self.chance(0.25):
            actions[int(2 ** self.random.uniform(0, 8))] = kill
        if person and self.chance(0.4):
            for _ in range(self.random.randint(1, 8)):
                actions.setdefault(self.random.randint(1, 120), self.act_as_person)
        number = itertools.count(1)

        def act(call: Call) -> None:
            action = actions.get(next(number))
            if action:
                action(call)

        return act

    def make_faults(self) -> Faults:
        """Some things that go wrong."""
        pick = self.random
        faults = Faults(seed=pick.randrange(1000))
        missing = [*WRONG, *[Answer(403), Answer(404)] * 4]
        ids = [*self.world.images, *self.world.snapshots], [*self.world.images]
        for _ in range(pick.choice([0, 1, 1, 2, 3])):
            operation, region = pick.choice(OPERATIONS), pick.choice(["", *WORLD_REGIONS])
            some_calls = pick.choice([{pick.randint(1, 6)}, range(pick.randint(1, 8), pick.randint(9, 40), 2)])
            calls = pick.choice([some_calls, range(1, sys.maxsize)])
            passing = pick.choice(PASSING)
            kinds: dict[str, Fault | dict[str, Any]] = {
                "refused": Fault(operation, pick.choice(WRONG), calls=some_calls),
                "passing": Fault(operation, passing, calls=some_calls),
                "late": Fault(operation, calls=some_calls, late=passing),
                # Only the log names a snapshot whose mark is refused.
                "one ID": Fault(operation, pick.choice(WRONG), id=pick.choice(ids[operation == "TagResources"])),
                "no permission": Fault(operation, FORBIDDEN, region),
                "hangs": Fault(operation, HANGS, calls=range(3, sys.maxsize, 3)),
                "empty": Fault("DescribeImages", NO_IMAGES, region, calls=calls),
                "snapshots are not shown": Fault("DescribeSnapshots", NO_SNAPSHOTS, calls=calls),
                "web": Fault(self.random_url(), pick.choice(missing), calls=calls),
                "accidents": {"accidents": pick.uniform(0.01, 0.25)},
                "throttled": {"calls_a_minute": pick.randint(2, 30)},
                "region down": {"dead_hosts": {ecs_host(pick.choice(WORLD_REGIONS))}},
                "lag": {"listing_lag": pick.uniform(5, 400), "ignore_missing": self.chance(0.5)},
                "history is cut short": {"commits_listed": pick.randrange(len(self.world.branches["release-4.10"]))},
            }
            name = pick.choice([*kinds, "empty", "empty", "web"])  # some find more than others
            kind = kinds[name]
            if name in ("web", "accidents") and self.odd_bootimage:
                continue
            if isinstance(kind, Fault):
                faults.failing.append(kind)
            else:
                faults = replace(faults, **kind)
        return faults

    def random_url(self) -> str:
        """Part of the URL of a document that must not be missed."""
        metas = [path for path in self.world.metas if not path.startswith(DIRECTORIES[1])]
        versions = self.world.branches["release-4.10"]  # whose commits are part of their URLs
        fixed = ["/commits", f"{DIRECTORIES[0]}/builds.json", "/meta.json", "/rhcos.json"]
        return self.random.choice([*fixed, self.random.choice(metas), *versions])

    def act_as_person(self, call: Call) -> None:
        """Pin or delete an image while a run is under way, best one that the request is about."""
        named = [self.world.images[id] for id in call.ids if id in self.world.images]
        image = self.random.choice([image for image in named if image.listed] or self.world.listed())
        if self.chance(0.7) and image.owner == KEY_ID:
            others = {key: value for key, value in image.tags.items() if key.casefold() != "bootimage"}
            image.tags = {**others, "bootimage": "true"}
            self.pinned.setdefault(image.id, image.public)
        elif not self.must_stay(image):
            image.deleted_at = call.at
            self.deleted_by_person.add(image.id)

    def run(self, faults: Faults, args: list[str], env: dict[str, str], speed: float, count: int) -> set[int]:
        """Start so many runs at the same time, wait for them, and check; returns their exit statuses."""
        self.processes = []
        with Sandbox(self.world, faults, speed) as sandbox, contextlib.ExitStack() as stack:
            for _ in range(count):
                self.logs += 1
                command = [sys.executable, str(MAIN), *args, "--log-to-file", f"{self.logs}.log", "4.10"]
                self.processes.append(stack.enter_context(start(sandbox, self.folder, command, env)))
            for started in self.processes:
                output, _ = started.process.communicate(timeout=100)  # A run that takes longer hangs.
                assert "Traceback" not in output, output
                check_secrets(started.run(output))
            assert sandbox.leaks == []
        for image in self.world.images.values():
            if image.deleted_at:
                image.deleted_at = 1.0  # The next run has another clock, and does not list the image any more.
        self.swept = self.swept or ("--delete-snapshots" in args and "--dry-run" not in args)
        self.check()
        return {started.process.returncode for started in self.processes}

    # Runs in which nothing goes wrong

    def run_without_faults(self) -> None:
        """The job is done, and the next run has nothing to do."""
        sweeps = [True] if self.chance(0.5) else [False, True]
        for sweep in sweeps:
            # Faster, because a region in which nothing of the account is left is asked for a minute.
            assert self.run(Faults(), ["--delete-snapshots"] * sweep, {}, 20, 1) == {0}
            self.check_success(sweep)

    # What must hold

    def read_record(self) -> dict[str, list[dict[str, Any]]]:
        record: dict[str, list[dict[str, Any]]] = {}
        return json.loads(self.record_path.read_text()) if self.record_path.exists() else record

    def check(self) -> None:
        """What holds after each run, however it ended."""
        logs = "".join(path.read_text() for path in self.folder.glob("*.log"))
        for image in self.deleted():
            assert not self.must_stay(image), f"{image} was deleted"
            tags = [value.casefold() for key, value in image.tags.items() if key.casefold() == "bootimage"]
            assert tags == ["false"], f"{image} was deleted without its tag"
            assert not image.public, f"{image} was deleted while it was public"
            for snapshot in self.world.snapshots_of(image):
                assert not (image.deleted_at and snapshot.listed) or snapshot.id in logs, f"no log names {snapshot}"
        for image in self.world.images.values():
            if self.must_stay(image) and image.id not in self.bootimage_ids:
                stays = image.tags.get("bootimage") != "false"
                # What is pinned stays as it is from that moment on: the account's policy sees to that.
                assert stays and image.public == self.pinned.get(image.id, image.was_public), f"{image} was changed"
        for id in self.pinned:
            assert is_pinned(self.world.images[id].tags), f"the pin of {id} was removed"
        for snapshot in self.world.snapshots.values():
            if snapshot.deleted_at:
                assert self.swept, f"{snapshot} was deleted"
                assert self.sweepable(snapshot), f"{snapshot} was deleted"
                assert self.is_gone(snapshot.image_id), f"{snapshot} was deleted"
                assert snapshot.image_id in self.world.images, f"{snapshot} was deleted"
        self.check_record()

    def check_record(self) -> None:
        """Nothing that is there is on record as deleted, and no build is on record without its images."""
        for build, entries in self.read_record().items():
            for entry in entries:
                believed = self.recorded.get(build, [])  # A wrong entry heals as soon as a run sees the image.
                assert entry in believed or not entry["deleted"] or self.is_gone(entry["image"]), (build, entry)
            on_record = {(entry["region"], entry["image"]) for entry in entries}
            assert on_record.issuperset(self.uploads.get(build, [])), f"{build} is on record without all its images"

    def check_success(self, swept: bool) -> None:
        """What holds after a run that was shown everything, and ended with status 0."""
        for image in self.world.listed():
            assert self.must_stay(image), f"{image} was left"
        for image in self.deleted() if swept else ():
            for snapshot in self.world.snapshots_of(image):
                assert not (snapshot.listed and self.sweepable(snapshot)), f"{snapshot} was left"
        record = self.read_record()
        for build in self.listed_builds:
            has_meta = any(meta["buildid"] == build for meta in self.world.metas.values())
            assert not (self.is_prunable(build) and has_meta) or build in record, f"{build} is not on record"
        for build in {*record}.intersection(self.listed_builds):
            for entry in record[build]:
                # Where there is no witness, what is gone can be on record as not deleted.
                excused = self.is_gone(entry["image"]) and entry["region"] == NEW_REGION
                assert entry["deleted"] == self.is_gone(entry["image"]) or excused, (build, entry)


def is_pinned(tags: dict[str, str]) -> bool:
    return any(key.casefold() == "bootimage" and value.casefold() == "true" for key, value in tags.items())


def test_what_must_hold_in_a_random_world(seed: int, tmp_path: Path) -> None:
    case = Case(seed, tmp_path)
    for _ in range(case.random.choice([1, 1, 2, 3])):
        case.run_with_faults()
    case.run_without_faults()
