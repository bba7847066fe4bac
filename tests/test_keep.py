"""What is never deleted, whatever else is true."""

from datetime import datetime, timedelta, timezone

from faults import Refused
from harness import BOOTIMAGE, PRIVATE_BUILD, REGIONS, Prune
from world import (
    OTHER_KEY_ID,
    World,
    build_id,
    builds_path,
    days_ago,
    image_id,
    meta_path,
    rhcos_json,
)


def test_build_that_is_named_for_another_architecture_is_kept(world: World, prune: Prune) -> None:
    images = world.add_build("410.84.202206060000-0", REGIONS, "bootimage")
    version = rhcos_json(BOOTIMAGE, REGIONS, world.directory)
    version["architectures"]["s390x"]["artifacts"]["qemu"] = {"release": "410.84.202206060000-0"}
    world.add_commit(version)
    assert prune().status == 0
    assert all(image.tags == {"bootimage": "true"} for image in images)


def test_bootimage_of_an_old_version_only_is_kept(world: World, prune: Prune) -> None:
    images = world.add_bootimage("410.84.202110010000-0", REGIONS)
    world.branches["release-4.10"].append(world.branches["release-4.10"].pop(0))
    prune()
    assert all(image.listed for image in images)


def test_image_that_is_named_by_its_id_is_kept_though_another_build_lists_it(world: World, prune: Prune) -> None:
    bootimage = world.images_of(BOOTIMAGE)[0]
    meta = world.metas[meta_path(PRIVATE_BUILD)]
    meta["aliyun"].append({"name": bootimage.region, "id": bootimage.id})
    bootimage.name = f"rhcos-{PRIVATE_BUILD}"
    assert prune().status == 0
    assert bootimage.listed


def test_image_that_is_named_by_its_id_is_kept_in_whatever_region_it_is(world: World, prune: Prune) -> None:
    image = world.add_build("410.84.202206010000-0", ["us-east-1"], "bootimage")[0]
    version = rhcos_json(BOOTIMAGE, REGIONS, world.directory)
    regions = version["architectures"]["x86_64"]["images"]["aliyun"]["regions"]
    regions["cn-hangzhou"] = {"release": BOOTIMAGE, "image": image.id}
    world.add_commit(version)
    assert prune().status == 0
    assert image.listed


def test_image_on_record_whose_build_alone_is_named_is_kept(world: World, prune: Prune) -> None:
    image = world.add_build("410.84.202206010000-0", ["eu-west-1"], "bootimage")[0]
    image.name = ""
    prune.write_record({BOOTIMAGE: [{"region": "eu-west-1", "image": image.id, "deleted": False}]})
    world.listings[world.directory].pop(0)
    assert prune().status == 0
    assert image.listed


def test_bootimage_on_record_is_kept(world: World, prune: Prune) -> None:
    entry = {"region": "us-east-1", "image": image_id(BOOTIMAGE, "us-east-1"), "deleted": False}
    record = {BOOTIMAGE: [entry], PRIVATE_BUILD: [entry]}
    prune.write_record(record)
    run = prune()
    assert run.status == 0
    assert world.images_of(BOOTIMAGE)[0].listed
    assert {build: run.record[build] for build in record} == record


def test_pinned_image_is_kept_and_named(world: World, prune: Prune) -> None:
    pinned = world.images_of(PRIVATE_BUILD)[0]
    pinned.kind, pinned.tags = "pinned", {"bootimage": "true"}
    run = prune()
    assert run.status == 0
    assert pinned.tags == {"bootimage": "true"}
    assert run.line(pinned.id, "pinned")
    assert [entry["deleted"] for entry in run.record[PRIVATE_BUILD]] == [False, True]


def test_build_younger_than_30_days_is_kept_and_not_put_on_record(world: World, prune: Prune) -> None:
    images = world.add_build(days_ago(29.9), REGIONS, "young build")
    run = prune()
    assert run.status == 0
    assert all(image.tags == {} for image in images)
    assert images[0].build not in run.record


def test_build_older_than_30_days_is_pruned(world: World, prune: Prune) -> None:
    images = world.add_build(days_ago(30.1), REGIONS)
    prune()
    assert not any(image.listed for image in images)


def test_young_build_on_record_is_kept(world: World, prune: Prune) -> None:
    image = world.add_build(days_ago(3), ["us-east-1"], "young build")[0]
    prune.write_record({image.build: [{"region": image.region, "image": image.id, "deleted": False}]})
    assert prune().status == 0
    assert image.listed


def test_build_from_the_future_is_kept(world: World, prune: Prune) -> None:
    build = build_id("4.10", datetime.now(timezone.utc) + timedelta(days=400))
    world.add_build(build, REGIONS, "young build")
    assert prune().status == 0


def test_young_bootimage_is_tagged(world: World, prune: Prune) -> None:
    images = world.add_bootimage(days_ago(2), REGIONS)
    prune()
    assert all(image.tags == {"bootimage": "true"} for image in images)


def test_image_of_another_account_is_kept_and_not_recorded_as_deleted(world: World, prune: Prune) -> None:
    image = world.add_build(
        "410.84.202206070000-0", ["us-east-1"], "another account's", owner=OTHER_KEY_ID, public=True
    )[0]
    run = prune()
    assert run.status == 0
    assert run.line(image.id, "not the account's own")
    assert run.record[image.build][0]["deleted"] is False


def test_image_on_record_of_another_release_is_kept_and_its_entry_unchanged(world: World, prune: Prune) -> None:
    build = "411.86.202207150124-0"
    image = world.add_build(build, ["us-east-1"], "another release's", directory="releases/rhcos-4.11")[0]
    record = {build: [{"region": "us-east-1", "image": image.id, "deleted": False}], "411.86.202207160000-0": []}
    prune.write_record(record)
    run = prune()
    assert run.status == 0
    assert {build: run.record[build] for build in record} == record


def test_builds_of_the_release_before_that_the_branch_inherited_are_kept(world: World, prune: Prune) -> None:
    world.branches["release-4.11"] = list(world.branches["release-4.10"][1:])
    world.release = "4.11"
    world.add_bootimage("411.86.202207150124-0", REGIONS)
    to_delete = world.add_build("411.86.202207160000-0", REGIONS)
    for build in (PRIVATE_BUILD, BOOTIMAGE):
        for image in world.images_of(build):
            image.kind = "another release's"
    run = prune("4.11")
    assert run.status == 0
    assert not any(image.listed for image in to_delete)
    assert run.calls("store", builds_path()) == []


def test_build_of_another_release_in_the_same_directory_is_kept(world: World, prune: Prune) -> None:
    world.add_build("49.84.202206070000-0", REGIONS, "another release's")
    run = prune()
    assert run.status == 0
    assert "49.84.202206070000-0" not in run.record


def test_image_whose_name_contains_another_build_id_is_kept(world: World, prune: Prune) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    image.kind, image.name = "another release's", "rhcos-411.86.202207150124-0"
    run = prune()
    assert run.status == 0
    assert run.line("WARNING", image.id, "411.86.202207150124-0")


def test_image_that_no_build_lists_is_left_alone(world: World, prune: Prune) -> None:
    unknown = world.add_build("410.84.202206080000-0", ["us-east-1"], "another release's")[0]
    del world.metas[meta_path(unknown.build)], world.listings[world.directory][0]
    assert prune().status == 0
    assert unknown.tags == {}


def test_message_with_a_character_that_stdout_cannot_encode_loses_no_outcome(world: World, prune: Prune) -> None:
    failing = world.images_of(PRIVATE_BUILD)[0]
    prune.faults.refusals["DeleteImage", failing.id] = Refused(403, "OperationDenied", "bad \ud800 text")
    run = prune(env={"PYTHONIOENCODING": "ascii"})
    assert run.line("ERROR", failing.id, "OperationDenied")
    assert [entry["deleted"] for entry in run.record[PRIVATE_BUILD]] == [False, True]
