"""What a run does, step by step as in the README."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from faults import LOST, REQUEST_ID, Answer, Fault, Faults
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, assert_all_pruned, recorded
from services import GitHubService, StoreService, as_described
from world import GITHUB_TOKEN, KEY_ID, OLD_STORE_HOST, STATUSES, EcsImage, World, history_world, image_id

import main

REGION = REGIONS[0]
NEW_BUILD, NEW_BOOTIMAGE = "410.84.202206010000-0", "410.84.202208010000-0"
MORE_REGIONS = [*REGIONS, "eu-west-1", "eu-central-1", "me-east-1", "us-west-1", "cn-beijing"]


class WorldWeb(main.Web):
    """GitHub and the store of a world, in this process."""

    def __init__(self, world: World) -> None:
        self.github, self.store = GitHubService(world, Faults()), StoreService(world)
        self.token, self.session = "", requests.Session()
        self.paths: list[str] = []

    def get_json(self, url: str, missing: str = "") -> Any:
        path, query = urlsplit(url).path, dict(parse_qsl(urlsplit(url).query))
        self.paths.append(path)
        if url.startswith(main.STORE):
            answer = self.store.answer(path)
        else:
            answer = self.github.answer_api(path, query, "", "") if query else self.github.answer_raw(path)
        if answer.status != 200:
            raise main.OutsideError(url, str(answer.status))
        return json.loads(answer.body) if isinstance(answer.body, bytes) else answer.body


def find_everything(web: WorldWeb, name: str = "4.10") -> tuple[main.Release, set[str]]:
    """Steps 1 to 4: what is known of the release, and the IDs of the images to look at."""
    record: main.Record = {OLD_BOOTIMAGE: []}  # A bootimage on record is read all the same.
    release, problems = main.read_store(web, main.read_history(web, name), record)
    assert (release.missing, problems) == ([], [])
    return release, {image.id for image, is_due in release.listed.items() if is_due}


def test_images_of_every_directory_tombstone_and_architecture_are_found(world: World) -> None:
    usual = ["releases/rhcos-4.10", "releases/rhcos-4.10-aarch64", "prod/streams/4.10/builds"]
    usual += ["prod/streams/4.10-9.2/builds", "prod/streams/4.10-9.4/builds"]
    world.add_bootimage("410.84.202205190000-0", REGIONS, "releases/named", host=OLD_STORE_HOST)
    for number, directory in enumerate([*usual, "releases/named"]):
        world.add_build(f"410.84.20220601000{number}-0", REGIONS, directory=directory)
    world.add_build("410.84.202206020000-0", REGIONS, tombstone=True)
    arm = world.add_build("410.84.202206030000-0", REGIONS, arches=["aarch64", "ppc64le", "x86_64"])[0].build
    del world.metas[f"{world.directory}/{arm}/x86_64/meta.json"]["aliyun"]
    # Only the meta.json of a bootimage that is on record names this one.
    world.add_image(EcsImage("m-uploaded", "eu-west-1", OLD_BOOTIMAGE, "bootimage"))
    uploads = world.metas[f"{world.directory}/{OLD_BOOTIMAGE}/x86_64/meta.json"]["aliyun"]
    uploads.append({"name": "eu-west-1", "id": "m-uploaded"})
    web = WorldWeb(world)
    release, to_look_at = find_everything(web)
    assert to_look_at == world.images.keys()
    assert release.bootimages.keys() == {image.id for image in world.listed("bootimage")}
    assert {path.split("/")[-2] for path in web.paths if arm in path} == {"aarch64", "x86_64"}


@pytest.mark.parametrize("name", ["4.10", "4.11"])
def test_of_the_real_history_all_is_kept_that_it_names_and_the_other_release_is_untouched(name: str) -> None:
    world = history_world()
    web = WorldWeb(world)
    release, to_look_at = find_everything(web, name)
    other = {"4.10": "4.11", "4.11": "4.10"}[name]  # The branch of 4.11 begins with versions that name builds of 4.10.
    assert not [path for path in web.paths if path.endswith("/builds.json") and other in path]
    seen = {i.id: main.parse_seen(as_described(i, KEY_ID)) for i in world.listed() if i.id in to_look_at}
    deleted = {id for id in seen if not main.reason_to_keep(main.Image("", id), seen[id], release)}
    assert deleted == {i.id for i in world.listed("to be pruned") if i.build[:4] == name.replace(".", "") + "."}


STEPS = ["/commits", "/rhcos.json", "DescribeImages", "/builds.json", "/meta.json", "TagResources", "DeleteImage"]


def test_images_of_builds_that_no_version_names_are_deleted_in_seven_steps(world: World, prune: Prune) -> None:
    run = prune()
    assert_all_pruned(run)
    assert Counter(image.build for image in world.listed()) == {OLD_BOOTIMAGE: 2, BOOTIMAGE: 2}
    assert recorded(run).keys() == {image.id for image in world.images.values() if not image.listed}
    for build, private in ((PUBLIC_BUILD, ["ModifyImageSharePermission"]), (PRIVATE_BUILD, [])):
        calls = [call for call in run.calls("ecs") if image_id(build, REGION) in call.ids]
        changes = [call.what for call in calls if not call.what.startswith("Describe")]
        assert changes == ["TagResources", *private, "DeleteImage"]
    seen = [call.what for call in run.sandbox.calls]
    first = [next(n for n, what in enumerate(seen) if what.endswith(step)) for step in STEPS]
    assert first == sorted(first) and first[5] > max(n for n, what in enumerate(seen) if what.endswith(".json"))
    # With a token, the versions come from the API. At the end of each run it is checked that no other host got it.
    assert len(run.calls("github", "/contents/")) == len(world.versions)
    assert set(run.sandbox.github.tokens) == {f"Bearer {GITHUB_TOKEN}"}


def test_without_a_token_images_of_every_status_are_pruned_and_only_wrong_tags_set(world: World, prune: Prune) -> None:
    for number, status in enumerate(STATUSES):
        world.add_build(f"410.84.20220601000{number}-0", REGIONS, status=status)
    for image in world.images.values():
        image.tags["bootimage"] = str(image.kind == "bootimage").lower()
    wrong, missing = world.images_of(BOOTIMAGE)[0], world.images_of(PRIVATE_BUILD)[0]
    wrong.tags, missing.tags = {"bootimage": "false"}, {}
    run = prune(env={"GITHUB_TOKEN": None})
    assert_all_pruned(run)
    assert {id for call in run.calls("ecs", "Tag") for id in call.ids if id[:2] == "m-"} == {wrong.id, missing.id}
    assert wrong.tags == {"bootimage": "true"}
    assert (run.calls("github", "/contents/"), set(run.sandbox.github.tokens)) == ([], {""})


def test_a_hundred_images_are_looked_at_in_one_call_and_fifty_tagged(world: World, prune: Prune) -> None:
    world.add_builds_around(165, [REGION], datetime(2022, 2, 1))
    counts = Counter(call.what for call in prune().calls("ecs") if call.where == REGION)
    # For 112 images and two bootimages: the witness, two pages of the account, three looks before, and two after.
    assert (counts["DescribeImages"], counts["TagResources"], counts["DeleteImage"]) == (8, 1 + 2 * 3, 112)


def test_deletion_counts_when_the_cloud_no_longer_lists_the_image(world: World, prune: Prune) -> None:
    late, never, silent = MORE_REGIONS[:3]
    world.add_bootimage(NEW_BOOTIMAGE, [silent])
    world.add_build(NEW_BUILD, [silent])
    done = Answer(200, {"RequestId": REQUEST_ID})  # but it was not carried out
    ids = {never: image_id(PUBLIC_BUILD, never), silent: ""}
    prune.faults.failing = [Fault("DeleteImage", done, region, id) for region, id in ids.items()]
    begun: set[str] = set()  # regions in which a deletion was asked for
    prune.faults.on_call = lambda call: begun.add(call.where) if call.what == "DeleteImage" else None
    prune.faults.failing.append(Fault("DescribeImages", LOST, silent, when=lambda _: silent in begun))
    prune.faults.listing_lag, prune.clock_speed = 200, 250
    run = prune()
    assert run.status == 1 and run.line("ERROR", never, "still listed") and run.line("ERROR", silent)
    gone = {(world.images[id].region, deleted) for id, deleted in recorded(run).items()}
    assert gone == {(late, True), (never, True), (never, False), (silent, False)}
    looks = [call.at for call in run.calls("ecs", "DescribeImages") if call.where == never]
    assert looks[-1] - looks[0] > 300
