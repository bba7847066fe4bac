"""Every build ever made is found: in every directory, for both architectures that ECS offers, tombstones included."""

from __future__ import annotations

import pytest
from faults import LOST, Answer
from harness import BOOTIMAGE, PUBLIC_BUILD, REGIONS, Prune, assert_refused
from world import World, builds_url, image_id, meta_path, rhcos_json

# A directory that rhcos.json names, and another in which the release's builds were made, too.
DIRECTORIES = {
    "4.10": ("releases/rhcos-4.10", "releases/rhcos-4.10-aarch64"),
    "4.16": ("prod/streams/4.16-9.4/builds", "prod/streams/4.16-9.2/builds"),
}
USUAL = "prod/streams/4.10/builds"


@pytest.mark.parametrize("release", DIRECTORIES)
def test_usual_directory_that_the_history_does_not_name_is_read(prune: Prune, release: str) -> None:
    named, directory = DIRECTORIES[release]
    world = World(release)
    prefix = release.replace(".", "")
    world.add_bootimage(f"{prefix}.92.202302010000-0", REGIONS, named)
    images = world.add_build(f"{prefix}.92.202303010000-0", REGIONS, directory=directory)
    prune.world = world
    run = prune(release)
    assert run.status == 0
    assert not any(image.listed for image in images)
    assert len(run.record[images[0].build]) == len(REGIONS)


def test_each_directory_is_read_once(prune: Prune) -> None:
    run = prune()
    paths = [call.what.partition("/art/storage/")[2] for call in run.calls("store", "builds.json")]
    assert sorted(paths) == sorted(
        f"{directory}/builds.json"
        for directory in (
            "releases/rhcos-4.10",
            "releases/rhcos-4.10-aarch64",
            "prod/streams/4.10/builds",
            "prod/streams/4.10-9.2/builds",
            "prod/streams/4.10-9.4/builds",
        )
    )


@pytest.mark.parametrize(
    ("directory", "arches"),
    [("releases/rhcos-4.10-aarch64", ["aarch64"]), (USUAL, ["s390x", "aarch64", "x86_64", "ppc64le"])],
    ids=["one", "two"],
)
def test_images_of_each_architecture_that_ecs_offers_are_found(
    world: World, prune: Prune, directory: str, arches: list[str]
) -> None:
    build = "410.84.202206010000-0"
    offered = [arch for arch in arches if arch in ("aarch64", "x86_64")]
    world.add_build(build, REGIONS, directory=directory, arches=arches)
    for arch, region in zip(offered, REGIONS):
        world.metas[meta_path(build, arch, directory)]["aliyun"] = [{"name": region, "id": image_id(build, region)}]
    run = prune()
    assert run.status == 0
    fetched = {call.what.split("/")[-2] for call in run.calls("store", f"{directory}/{build}/")}
    assert fetched == set(offered)
    assert [image.listed for image in world.images_of(build)] == [False] * len(offered) + [True] * (2 - len(offered))


def test_images_of_a_build_that_two_directories_list_are_found_in_both(world: World, prune: Prune) -> None:
    build = "410.84.202206010000-0"
    world.add_build(build, [REGIONS[0]])
    world.add_build(build, [REGIONS[1]], directory="releases/rhcos-4.10-aarch64", arches=["aarch64"])
    run = prune()
    assert run.status == 0
    assert not any(image.listed for image in world.images_of(build))
    assert {entry["region"] for entry in run.record[build]} == set(REGIONS)


@pytest.mark.parametrize("status", [403, 404])
def test_usual_directory_that_does_not_exist_is_nothing(prune: Prune, status: int) -> None:
    prune.faults.answers[builds_url(USUAL)] = Answer(status, b"<Error/>")
    run = prune()
    assert run.status == 0
    assert "WARNING" not in run.output
    assert "ERROR" not in run.output


def test_missing_directory_that_the_history_names_is_left_and_named(world: World, prune: Prune) -> None:
    directory = "prod/streams/4.10-8.6/builds"
    bootimages = world.add_bootimage("410.84.202208010000-0", REGIONS, directory)
    world.add_build("410.84.202208020000-0", REGIONS, "in a missing directory", directory=directory)
    prune.faults.answers[builds_url(directory)] = Answer(403, b"<Error/>")
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", directory, "no builds.json")
    assert world.listed("to be pruned") == []
    assert all(image.tags == {"bootimage": "true"} for image in bootimages)
    assert len(world.listed("in a missing directory")) == len(REGIONS)


def test_missing_directory_that_is_named_and_usual_is_left_and_named(world: World, prune: Prune) -> None:
    world.add_commit(rhcos_json("410.84.202208010000-0", REGIONS, USUAL))
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", USUAL, "no builds.json")
    assert world.listed("to be pruned") == []


FAILURES = {
    "401": Answer(401),
    "connection lost": LOST,
    "a tombstone without arches": Answer(200, {"builds": [], "tombstone-builds": [{"id": PUBLIC_BUILD}]}),
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
def test_usual_directory_that_cannot_be_read_is_refused(prune: Prune, answer: Answer) -> None:
    prune.faults.answers[builds_url(USUAL)] = answer
    prune.clock_speed = 20
    run = assert_refused(prune, builds_url(USUAL), "try again later")
    assert run.calls("ecs")


def test_tombstone_is_pruned_like_a_build(world: World, prune: Prune) -> None:
    images = world.add_build("410.84.202206010000-0", REGIONS, tombstone=True, public=True)
    run = prune()
    assert run.status == 0
    assert not any(image.listed for image in images)
    assert [entry["deleted"] for entry in run.record[images[0].build]] == [True, True]


def test_directory_with_tombstones_only_is_read(world: World, prune: Prune) -> None:
    images = world.add_build("410.84.202206010000-0", REGIONS, directory=USUAL, tombstone=True)
    assert world.listings[USUAL] == []
    assert prune().status == 0
    assert not any(image.listed for image in images)


def test_tombstone_that_is_a_bootimage_is_kept(world: World, prune: Prune) -> None:
    for build in list(world.listings[world.directory]):
        if build["id"] == BOOTIMAGE:
            world.listings[world.directory].remove(build)
            world.tombstones[world.directory].append(build)
    assert prune().status == 0
    assert all(image.tags == {"bootimage": "true"} for image in world.images_of(BOOTIMAGE))


def test_image_on_record_whose_build_is_a_tombstone_is_pruned(world: World, prune: Prune) -> None:
    image = world.add_build("410.84.202206010000-0", ["us-east-1"], tombstone=True)[0]
    prune.write_record({image.build: [{"region": image.region, "image": image.id, "deleted": False}]})
    run = prune()
    assert run.status == 0
    assert not image.listed
    assert run.record[image.build][0]["deleted"] is True


def test_image_on_record_whose_build_is_in_no_listing_is_recorded_once_it_is_gone(world: World, prune: Prune) -> None:
    image = world.add_build("410.84.202206010000-0", ["us-east-1"])[0]
    world.listings[world.directory].pop(0)
    del world.images[image.id]
    prune.write_record({image.build: [{"region": image.region, "image": image.id, "deleted": False}]})
    run = prune()
    assert run.status == 0
    assert run.record[image.build][0]["deleted"] is True
