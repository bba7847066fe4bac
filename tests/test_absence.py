"""What a service does not show is not therefore gone: an image, a commit, a directory, the images of a build."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from faults import NO_IMAGES, Call, Fault
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, make_region, make_seen
from sandbox import Sandbox
from world import EcsImage, World, days_ago, image_id, meta_path, rhcos_json

import main

REGION, OTHER_REGION = REGIONS
OTHER_RELEASE = "411.86.202207150124-0"
COMMITS = [*(f"{number:040x}" for number in range(249)), main.OLDEST_COMMIT]


def test_list_of_commits_is_believed_only_if_it_ends_with_the_oldest_one(world: World) -> None:
    with Sandbox(world) as sandbox, patch.dict(os.environ, sandbox.environment(), clear=True):
        web = main.Web(main.read_environment())
        for length in (1, 2, 99, 100, 101, 200, 250):
            world.branches["release-4.10"] = COMMITS[-length:]
            assert main.list_commits(web, "4.10") == COMMITS[-length:]
        for commits in (COMMITS[:1], COMMITS[:100], COMMITS[:101], COMMITS[:-1]):
            world.branches["release-4.10"] = commits
            with pytest.raises(main.Refusal, match=r"incomplete.* run again"):
                main.list_commits(web, "4.10")


def test_commit_that_leaves_the_branch_between_two_pages_hides_no_other_one(world: World) -> None:
    """A force-push takes the first commit away: the second page of the branch would begin with its 102nd commit."""
    with Sandbox(world) as sandbox, patch.dict(os.environ, sandbox.environment(), clear=True):
        world.branches["before the push"] = COMMITS

        def push(_: Call) -> None:
            world.branches["release-4.10"] = COMMITS[len(sandbox.calls) :]

        sandbox.faults.on_call = push
        assert main.list_commits(main.Web(main.read_environment()), "4.10") == COMMITS


def test_listing_that_shifts_between_two_pages_is_read_to_its_end() -> None:
    """One more, listed first, moves all others by one; a page that comes again is the end."""
    ids = [f"s-{number}" for number in range(250)]
    pages = {1: ids[:100], 2: ids[99:199], 3: ids[199:]}

    def fetch(page: int) -> dict[str, None]:
        return dict.fromkeys(pages[page])

    assert list(main.list_all(fetch, main.Patience())) == ids
    pages[3] = pages[2]
    assert len(main.list_all(fetch, main.Patience())) == 199


def test_witness_of_a_region_is_best_an_image_that_no_run_deletes(world: World, prune: Prune) -> None:
    """Each region lacks the best witness of the one before; in the last one there is only what this run deletes."""
    regions = ["eu-west-1", "eu-central-1", "me-east-1", "us-west-1", "cn-beijing"]
    to_prune = world.add_build("410.84.202206010000-0", regions)
    kinds: dict[str, dict[str, Any]] = {
        "bootimage": {"name": f"rhcos-{BOOTIMAGE}"},
        "pinned": {"tags": {"bootimage": "true"}},
        "of no build": {"name": "my-server"},
        "another release's": {"name": f"rhcos-{OTHER_RELEASE}"},
    }
    witnesses: list[set[str]] = []
    for number, region in enumerate(regions):
        images = [EcsImage(f"{region}-{kind[:3]}", region, "", kind, **fields) for kind, fields in kinds.items()]
        for image in reversed(images[number:]):
            world.add_image(image)
        witnesses.append({image.id for image in images[number : number + 1]})
    world.metas[meta_path(BOOTIMAGE)]["aliyun"].append({"name": regions[0], "id": f"{regions[0]}-boo"})
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    looks = [[call.ids for call in run.calls("ecs", "DescribeImages") if image.id in call.ids] for image in to_prune]
    assert [set().union(*ids) - {image.id} for ids, image in zip(looks, to_prune)] == witnesses


def test_witness_is_an_image_of_the_account_that_was_asked_for() -> None:
    foreign = make_seen(own=False)
    shown = {"m-unasked": make_seen(), "m-foreign": foreign, "m-named": make_seen()}
    for ids, witness in ((["m-gone", "m-foreign", "m-named"], ["m-named"]), (["m-gone", "m-foreign"], [])):
        region = make_region(SimpleNamespace(list_images=lambda **_: shown), witness=[])
        region.look_first(region.release.history._replace(images={id: main.Image(REGION, id) for id in ids}))
        assert region.witness == witness
    region = make_region(SimpleNamespace(list_images=lambda *_, **__: {"m-foreign": foreign}), witness=[])
    region.list_own()
    assert region.witness == []


def test_region_whose_bootimages_were_removed_by_hand_is_pruned_all_the_same(world: World, prune: Prune) -> None:
    for build in (OLD_BOOTIMAGE, BOOTIMAGE):
        del world.images[image_id(build, REGION)]
    world.add_image(EcsImage("m-own", REGION, "", "mine", name="my-server"))
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert run.line("WARNING", image_id(BOOTIMAGE, REGION), "is a bootimage, but it is not in the account")


def test_empty_list_of_a_region_without_bootimages_is_asked_for_again(world: World, prune: Prune) -> None:
    """Nothing of the account is shown there, although lists name images."""
    images = world.add_build("410.84.202206010000-0", ["eu-west-1", "me-east-1"])
    prune.faults.failing = [Fault("DescribeImages", NO_IMAGES, "eu-west-1", calls={1, 2})]
    prune.faults.failing.append(Fault("DescribeImages", NO_IMAGES, "me-east-1"))
    prune.clock_speed = 30
    run = prune()
    assert (run.status, [image.listed for image in images]) == (0, [False, True])
    assert run.line("WARNING", images[1].id, "is kept: not listed")
    assert {id: deleted for id, deleted in run.recorded.items() if id == images[1].id} == {images[1].id: False}


def test_image_of_a_region_without_a_witness_that_was_listed_is_its_own_witness(world: World, prune: Prune) -> None:
    """A look that does not show it is a lost one."""
    images = [world.add_build(f"410.84.20220601000{number}-0", ["eu-west-1"])[0] for number in range(3)]
    prune.faults.failing = [Fault("DescribeImages", NO_IMAGES, "eu-west-1", id=image.id) for image in images]
    prune.clock_speed = 60
    run = prune()
    assert run.status == 1 and run.line("ERROR", "eu-west-1: 3 images (m-", "what should be there is not listed (m-")
    prune.faults.failing = []
    assert prune().status == 0 and not any(image.listed for image in images)


def test_true_entry_that_another_run_wrote_meanwhile_stays_without_a_witness(world: World, prune: Prune) -> None:
    """The other one deleted what this one saw in its listing of the region."""
    image = world.add_build("410.84.202206010000-0", ["eu-west-1"])[0]
    entry = {"region": "eu-west-1", "image": image.id, "deleted": True}

    def delete(call: Call) -> None:
        if call.where == "eu-west-1" and image.id in call.ids:
            image.deleted_at, image.tags = image.deleted_at or call.at, {"bootimage": "false"}
            prune.write_record({image.build: [entry]})

    prune.faults.on_call, prune.clock_speed = delete, 60
    assert prune().record[image.build] == [entry]


def test_incomplete_record_is_named_as_such(world: World, prune: Prune) -> None:
    world.add_build(OTHER_RELEASE, REGIONS, "another release's", directory="releases/rhcos-4.11")
    prune.write_record({PRIVATE_BUILD: [], OTHER_RELEASE: []})
    run = prune()
    assert run.status == 0
    for image in world.images_of(PRIVATE_BUILD):
        assert image.listed
        assert run.line("WARNING", image.id, "stays: no meta.json names it, nor the record", "a new --filename")
    assert OTHER_RELEASE not in run.output  # Its images are another run's business.
    assert prune("--filename", "new.json", "4.10").status == 0
    assert world.listed("to be pruned") == []


def test_tombstone_without_a_meta_json_is_no_failure_and_not_on_record(world: World, prune: Prune) -> None:
    gone, there, both, twice = (f"410.84.20220601000{number}-0" for number in range(4))
    world.add_build(gone, tombstone=True)
    world.add_build(there, REGIONS, tombstone=True)
    world.add_build(both, REGIONS)
    world.tombstones[world.directory] += [{"id": both, "arches": ["x86_64"]}]
    world.add_build(twice, REGIONS)
    world.listings["prod/streams/4.10/builds"] = [{"id": twice, "arches": ["x86_64"]}]
    world.metas[meta_path(twice, directory="prod/streams/4.10/builds")] = world.metas[meta_path(twice)]
    del world.metas[meta_path(gone)]
    world.add_image(unlisted := EcsImage("m-of-a-tombstone", REGION, gone, "not listed"))
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert gone not in run.record and len(run.record[both]) == len(run.record[twice]) == len(REGIONS)
    assert run.line("other images: 10 images = 10 deleted")
    assert run.line("WARNING", unlisted.id, "stays: no meta.json names it")
    assert len(run.calls("store", f"{both}/x86_64/meta.json")) == 1
    prune.write_record({})
    del world.metas[meta_path(both)]  # It is no tombstone, because builds.json lists it, too.
    assert prune().line("ERROR", both, "403")


def test_absence_of_a_tombstone_is_believed_for_each_meta_json(world: World, prune: Prune) -> None:
    """It was deleted in one directory, or for one architecture, and is there in the other one."""
    partly, moved = "410.84.202206010000-0", "410.84.202206020000-0"
    world.add_build(partly, REGIONS, tombstone=True, arches=["x86_64", "aarch64"])
    world.add_build(moved, REGIONS, directory="prod/streams/4.10/builds")
    world.tombstones[world.directory] += [{"id": moved, "arches": ["x86_64"]}]
    del world.metas[meta_path(partly, "aarch64")]
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert run.record.keys() >= {partly, moved}


def test_what_was_read_of_a_bootimage_is_kept_although_the_rest_could_not_be_read(world: World, prune: Prune) -> None:
    image = EcsImage("m-shared", REGION, BOOTIMAGE, "bootimage", name=f"rhcos-{PRIVATE_BUILD}")
    world.add_image(image)
    for build in (BOOTIMAGE, PRIVATE_BUILD):
        world.metas[meta_path(build)]["aliyun"].append({"name": REGION, "id": image.id})
    next(entry for entry in world.listings[world.directory] if entry["id"] == BOOTIMAGE)["arches"].append("aarch64")
    run = prune()  # There is no meta.json of aarch64.
    assert run.status == 0 and run.line("WARNING", "RHCOS store: 1 bootimage build", BOOTIMAGE, "403")
    assert image.listed and image.tags == {"bootimage": "true"}


def test_empty_region_is_said_to_be_perhaps_closed(world: World, prune: Prune) -> None:
    world.images = {image.id: image for image in world.images.values() if image.region == REGION}
    prune.clock_speed = 60
    run = prune()
    assert run.status == 1 and world.listed("to be pruned") == []
    assert run.line("ERROR", OTHER_REGION, f"if {OTHER_REGION} is closed for good, add it to CLOSED_REGIONS")
    assert "ALIYUN_ACCESS_KEY_ID" not in run.output


@pytest.mark.parametrize("build", [BOOTIMAGE, PRIVATE_BUILD], ids=["bootimages are tagged", "all is deleted"])
def test_image_is_not_gone_if_the_witness_is_not_listed_either(world: World, prune: Prune, build: str) -> None:
    image = world.images[image_id(build, REGION)]
    nothing_is_shown = Fault("DescribeImages", NO_IMAGES, REGION)
    nothing_is_shown.when = lambda _: image.tags if build == BOOTIMAGE else REGION not in world.regions_to_prune()
    prune.faults.failing = [nothing_is_shown]
    prune.clock_speed = 150
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", f"{REGION}: 2 images", "should be there is not listed", "ecs:DescribeImages")
    deleted = {id for id, is_deleted in run.recorded.items() if is_deleted}
    assert deleted == {image_id(build, OTHER_REGION) for build in (PUBLIC_BUILD, PRIVATE_BUILD)}


def test_build_that_a_missing_directory_may_list_too_does_not_go_on_record(world: World, prune: Prune) -> None:
    directory = "prod/streams/4.10-8.6/builds"
    world.add_commit(rhcos_json(OLD_BOOTIMAGE, REGIONS, directory))
    run = prune()
    assert (run.status, run.record, world.listed("to be pruned")) == (1, {}, [])
    assert run.line("ERROR", directory)


def test_image_that_no_list_names_stays_with_a_warning_if_its_build_was_read(world: World, prune: Prune) -> None:
    young = days_ago(main.YOUNG.days / 2)  # whose images a run does not look for
    world.add_build(young)
    builds = [PUBLIC_BUILD, PRIVATE_BUILD, young]
    unlisted = [EcsImage(f"m-new{number}", REGION, build, "") for number, build in enumerate(builds)]
    world.metas[meta_path(PRIVATE_BUILD)]["aliyun"].append({"name": OTHER_REGION, "id": unlisted[1].id})
    unlisted.append(EcsImage("m-new3", REGION, "", "", name="my-server"))
    for image in unlisted:
        world.add_image(image)
    run = prune()
    assert run.status == 0
    for image in unlisted[:2]:
        assert run.line("WARNING", f"{REGION} {image.id}", "stays: no meta.json names it")
    assert not any(f"{REGION} {image.id}" in run.output for image in unlisted[2:])
    assert [image.tags for image in unlisted if image.listed] == [{}] * 4
