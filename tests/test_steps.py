"""The seven steps of the README, one run each."""

from __future__ import annotations

from datetime import datetime, timezone

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
from world import GITHUB_TOKEN, OLD_STORE_HOST, STATUSES, World, image_id, meta_path, rhcos_json


def test_run_deletes_exactly_the_images_of_builds_that_are_in_no_version_of_rhcos_json(
    world: World, prune: Prune
) -> None:
    run = prune()
    assert run.status == 0
    assert {image.build for image in world.listed()} == {OLD_BOOTIMAGE, BOOTIMAGE}
    assert len(world.listed()) == 2 * len(REGIONS)


def test_all_pages_of_commits_are_read(world: World, prune: Prune) -> None:
    for _ in range(250):
        world.add_commit(rhcos_json(BOOTIMAGE, REGIONS, world.directory))
    run = prune()
    assert len(run.calls("github", "/commits")) == 3
    assert {image.build for image in world.listed()} == {OLD_BOOTIMAGE, BOOTIMAGE}


@pytest.mark.parametrize("token", [GITHUB_TOKEN, None], ids=["with token", "without token"])
def test_github_token_is_used_where_it_is_set(prune: Prune, token: str | None) -> None:
    run = prune(env={"GITHUB_TOKEN": token})
    assert run.status == 0
    assert set(run.sandbox.github.tokens) == {f"Bearer {token}" if token else ""}
    assert len(run.calls("github")) == 1 + 3


@pytest.mark.parametrize(
    ("release", "directory"),
    [
        ("4.11", "prod/streams/4.11/builds"),
        ("4.16", "prod/streams/4.16-9.4/builds"),
    ],
)
def test_every_directory_where_the_history_places_builds_is_read(
    prune: Prune, world: World, release: str, directory: str
) -> None:
    world.release = release
    prefix = release.replace(".", "")
    world.add_bootimage(f"{prefix}.86.202302010000-0", REGIONS)
    world.add_bootimage(f"{prefix}.86.202303010000-0", REGIONS, directory)
    world.add_build(f"{prefix}.86.202302150000-0", REGIONS)
    world.add_build(f"{prefix}.86.202303150000-0", REGIONS, directory=directory)
    run = prune(release)
    assert run.status == 0
    assert {image.build for image in world.listed() if image.build.startswith(prefix)} == {
        f"{prefix}.86.202302010000-0",
        f"{prefix}.86.202303010000-0",
    }


def test_directories_named_by_the_old_store_are_read_from_the_new_one(world: World, prune: Prune) -> None:
    directory = "prod/streams/4.10/builds"
    world.add_bootimage("410.84.202205191234-0", REGIONS, directory, host=OLD_STORE_HOST)
    to_delete = world.add_build("410.84.202205201234-0", REGIONS, directory=directory)
    assert prune().status == 0
    assert not any(image.listed for image in to_delete)


def test_release_whose_usual_directory_does_not_exist(world: World, prune: Prune) -> None:
    world.release = "4.16"
    world.add_bootimage("416.94.202405291527-0", REGIONS, "prod/streams/4.16-9.4/builds")
    to_delete = world.add_build("416.94.202405301527-0", REGIONS, directory="prod/streams/4.16-9.4/builds")
    assert prune("4.16").status == 0
    assert not any(image.listed for image in to_delete)


def test_images_of_both_architectures_that_ecs_runs_are_found(world: World, prune: Prune) -> None:
    to_delete = world.add_build("410.84.202206030000-0", REGIONS, arches=["aarch64", "ppc64le", "s390x", "x86_64"])
    world.metas[meta_path("410.84.202206030000-0")]["aliyun"].pop()
    run = prune()
    assert not any(image.listed for image in to_delete)
    paths = {call.what.split("/")[-2] for call in run.calls("store", "410.84.202206030000-0")}
    assert paths == {"aarch64", "x86_64"}


def test_images_in_every_status_are_pruned(world: World, prune: Prune) -> None:
    builds = {f"410.84.20220601000{number}-0": status for number, status in enumerate(STATUSES)}
    for build, status in builds.items():
        world.add_build(build, REGIONS, status=status)
    run = prune()
    assert run.status == 0
    for build, status in builds.items():
        assert not any(image.listed for image in world.images_of(build)), status
        assert run.record[build][0]["deleted"], status


def test_bootimages_are_tagged_wherever_their_build_lists_them(world: World, prune: Prune) -> None:
    meta = world.metas[meta_path(BOOTIMAGE)]
    replicated = world.add_build("410.84.202207070000-0", ["eu-west-1"], "bootimage")[0]
    del world.metas[meta_path("410.84.202207070000-0")], world.listings[world.directory][0]
    replicated.name = f"rhcos-{BOOTIMAGE}"
    meta["aliyun"].append({"name": replicated.region, "id": replicated.id})
    prune()
    assert replicated.tags == {"bootimage": "true"}
    assert all(image.tags == {"bootimage": "true"} for image in world.listed("bootimage"))


def test_bootimage_that_was_tagged_false_is_tagged_true(world: World, prune: Prune) -> None:
    world.images_of(BOOTIMAGE)[0].tags["bootimage"] = "false"
    prune()
    assert world.images_of(BOOTIMAGE)[0].tags["bootimage"] == "true"


def test_only_public_images_are_made_private(prune: Prune) -> None:
    run = prune()
    assert len(run.calls("ecs", "ModifyImageSharePermission")) == len(REGIONS)


def test_image_is_tagged_then_made_private_then_deleted(prune: Prune) -> None:
    run = prune()
    image = image_id(PUBLIC_BUILD, "us-east-1")
    lines = [line for line in run.output.splitlines() if image in line]
    happened = [line.partition(") ")[2] for line in lines]
    snapshot = image.replace("m-", "s-")
    assert happened == ["tagged bootimage=false", "made private", f"leaves snapshot {snapshot}", "deleted"]


def test_log_says_what_happened_to_which_image_where(prune: Prune) -> None:
    run = prune()
    assert run.line("us-east-1", image_id(PUBLIC_BUILD, "us-east-1"), PUBLIC_BUILD, "deleted")
    in_file = [line.split(maxsplit=2)[2] for line in run.log.splitlines()]
    on_stdout = [line.split(maxsplit=1)[1] for line in run.output.splitlines()]
    assert sorted(in_file) == sorted(on_stdout)


def test_record_has_the_format_of_the_original_script(prune: Prune) -> None:
    assert prune().record == {
        PRIVATE_BUILD: [
            {"region": region, "image": image_id(PRIVATE_BUILD, region), "deleted": True} for region in REGIONS
        ],
        PUBLIC_BUILD: [
            {"region": region, "image": image_id(PUBLIC_BUILD, region), "deleted": True} for region in REGIONS
        ],
        BUILD_WITHOUT_IMAGES: [],
    }


def test_second_run_deletes_nothing_and_fetches_no_meta_json_of_a_build_on_record(prune: Prune) -> None:
    record = prune().record
    run = prune()
    assert run.status == 0
    assert run.record == record
    assert {call.what for call in run.calls("ecs")} == {"DescribeImages"}
    fetched = {call.what.split("/")[-3] for call in run.calls("store", "meta.json")}
    assert fetched == {OLD_BOOTIMAGE, BOOTIMAGE}


def test_new_builds_are_pruned_by_the_second_run(world: World, prune: Prune) -> None:
    first = prune().record
    world.add_build("410.84.202208010000-0", ["us-east-1"])
    run = prune()
    assert run.record == first | {
        "410.84.202208010000-0": [
            {"region": "us-east-1", "image": image_id("410.84.202208010000-0", "us-east-1"), "deleted": True}
        ]
    }


def test_image_that_is_gone_already_is_recorded_as_deleted(world: World, prune: Prune) -> None:
    for image in world.images_of(PUBLIC_BUILD):
        del world.images[image.id]
    run = prune()
    assert run.status == 0
    assert all(entry["deleted"] for entry in run.record[PUBLIC_BUILD])
    assert run.line("us-east-1", image_id(PUBLIC_BUILD, "us-east-1"), "already gone")


def test_more_images_than_one_call_takes(world: World, prune: Prune) -> None:
    world.add_builds_around(180, ["us-east-1"], datetime(2022, 1, 26, tzinfo=timezone.utc))
    run = prune()
    assert run.status == 0
    assert len(world.listed()) == len(world.listed("bootimage"))
