"""What is never deleted: the decision as plain functions, a row for each promise, and runs that show it."""

from __future__ import annotations

import pytest
from faults import THROTTLED, Call, EcsFault
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, Run
from world import OTHER_KEY_ID, EcsImage, World, days_ago, meta_path, rhcos_json

import main
from main import Image, Release, Seen

REGION, OTHER_REGION = REGIONS
BUILD, OTHER_BUILD = "410.84.202205171530-0", "410.84.202206010000-0"
UNLISTED, IMPOSSIBLE_DATE = "410.84.202204010000-0", "410.84.202213450000-0"
OTHER_RELEASE = "411.86.202207150124-0"
YOUNG = days_ago(29.9)

IMAGE, NAMED = Image(REGION, "m-1", BUILD), Image(REGION, "m-named", BOOTIMAGE)
LISTED = (BOOTIMAGE, BUILD, OTHER_BUILD, IMPOSSIBLE_DATE, OTHER_RELEASE, YOUNG)
RELEASE = Release("4.10", frozenset({BOOTIMAGE}), {NAMED.id: NAMED}, {NAMED.id: NAMED}, LISTED)
SEEN = Seen(own=True, public=False, in_use=False, pinned=False, tag="false", name=f"rhcos-{BUILD}", snapshots=())


def named(build: str) -> Seen:
    return SEEN._replace(name=f"rhcos-{build}")


KEPT = {
    "rhcos.json names its ID": (NAMED, SEEN, main.BOOTIMAGE),
    "its name is that of a bootimage": (IMAGE, named(BOOTIMAGE), main.BOOTIMAGE),
    "another account's": (IMAGE, SEEN._replace(own=False), "account"),
    "another account's, of a bootimage's build": (IMAGE, named(BOOTIMAGE)._replace(own=False), main.BOOTIMAGE),
    "pinned": (IMAGE, SEEN._replace(pinned=True), main.PINNED),
    "pinned and in use": (IMAGE, SEEN._replace(pinned=True, in_use=True), main.PINNED),
    "used by an instance": (IMAGE, SEEN._replace(in_use=True), "instance"),
    "its name is that of a young build": (IMAGE, named(YOUNG), main.TOO_YOUNG),
    "its name has an impossible date": (IMAGE, named(IMPOSSIBLE_DATE), main.NO_DATE),
    "its name is that of another release": (IMAGE, named(OTHER_RELEASE), main.OTHER_RELEASE),
    "no builds.json lists the build in its name": (IMAGE, named(UNLISTED), UNLISTED),
    "its name has a longer build ID": (IMAGE, named(f"{BUILD}1"), f"{BUILD}1"),
    "its name has a build ID with a digit in front": (IMAGE, named(f"1{BUILD}"), f"1{BUILD}"),
    "its name has an undated build ID": (IMAGE, named("410.84.test-0"), "410.84.test-0"),
    "it has no name": (IMAGE, SEEN._replace(name=""), "name"),
    "deleted: private": (IMAGE, SEEN, ""),
    "deleted: public": (IMAGE, SEEN._replace(public=True), ""),
    "deleted: not yet tagged": (IMAGE, SEEN._replace(tag=""), ""),
    "deleted: another prefix in its name": (IMAGE, SEEN._replace(name=f"coreos-{BUILD}-copy"), ""),
    "deleted: named for another old build": (IMAGE, named(OTHER_BUILD), ""),
}


@pytest.mark.parametrize(("image", "seen", "word"), KEPT.values(), ids=KEPT)
def test_image_is_kept_and_the_reason_said(image: Image, seen: Seen, word: str) -> None:
    reason = main.reason_to_keep(image, seen, RELEASE)
    assert word in reason if word else reason == ""


def test_pin_is_known_in_any_capitalisation_and_among_other_tags() -> None:
    def pinned(*tags: str) -> bool:
        listed = [{"TagKey": tag.partition("=")[0], "TagValue": tag.partition("=")[2]} for tag in tags]
        return main.parse_resource({"Tags": {"Tag": listed}}).pinned

    for tag in ("bootimage=true", "bootimage=True", "Bootimage=true", "BOOTIMAGE=TRUE"):
        assert pinned("a=b", tag, "other=false")
    for tag in ("bootimage=false", "bootimage=", "not-bootimage=true", "other=true"):
        assert not pinned(tag)


def test_build_is_pruned_if_it_is_dated_and_30_days_old_and_of_this_release() -> None:
    skipped = {days_ago(29.99): main.TOO_YOUNG, days_ago(-400): main.TOO_YOUNG, days_ago(30.01): "", BUILD: ""}
    skipped |= {BOOTIMAGE: main.BOOTIMAGE, "410.84.test-0": main.NO_DATE, IMPOSSIBLE_DATE: main.NO_DATE}
    skipped |= {OTHER_RELEASE: main.OTHER_RELEASE, "41.84.202205171530-0": main.OTHER_RELEASE}
    assert {build: main.reason_to_skip(build, RELEASE) for build in skipped} == skipped


def entry(deleted: bool) -> dict[str, object]:
    return {"region": REGION, "image": IMAGE.id, "deleted": deleted}


def listed_by(*builds: str) -> dict[str, list[Image]]:
    return {build: [Image(REGION, IMAGE.id, build)] for build in builds}


LISTS = {
    "old build": (listed_by(BUILD), {}, (False, True)),
    "bootimage": (listed_by(BOOTIMAGE), {}, (True, True)),
    "old build, then bootimage": (listed_by(BUILD, BOOTIMAGE), {}, (True, True)),
    "bootimage, then old build": (listed_by(BOOTIMAGE, BUILD), {}, (True, True)),
    "bootimage on record": ({}, {BOOTIMAGE: [entry(False)]}, (True, True)),
    "bootimage on record as deleted": ({}, {BOOTIMAGE: [entry(True)]}, (True, True)),
    "bootimage on record, listed by an old build": (listed_by(BUILD), {BOOTIMAGE: [entry(True)]}, (True, True)),
    "old build on record": ({}, {BUILD: [entry(False)]}, (False, True)),
    "old build on record as deleted": ({}, {BUILD: [entry(True)]}, (False, False)),
    "deleted and not deleted": ({}, {BUILD: [entry(True)], OTHER_BUILD: [entry(False)]}, (False, True)),
    "another release's on record": ({}, {OTHER_RELEASE: [entry(False)]}, (False, False)),
}


@pytest.mark.parametrize(("uploads", "record", "found"), LISTS.values(), ids=LISTS)
def test_image_is_a_bootimage_if_one_of_its_lists_is_of_a_bootimage(
    uploads: dict[str, list[Image]], record: main.Record, found: tuple[bool, bool]
) -> None:
    """And what is said of it twice is looked at, unless all say that it is deleted."""
    release, to_look_at = main.find_images(RELEASE, uploads, record)
    assert NAMED in to_look_at
    assert (IMAGE.id in release.images, IMAGE in to_look_at) == found


# Runs


def prune_all_but(prune: Prune, *kept: EcsImage) -> Run:
    """Run, and check that all is pruned but these; what they may not lose is checked at the end of each run."""
    run = prune()
    assert run.status == 0
    assert prune.world.listed("to be pruned") == []
    for image in kept:
        assert image.listed
        assert image.public == image.was_public
        assert image.tags.get("bootimage") != "false"
    return run


def test_bootimage_of_an_old_version_only_is_kept_and_tagged(world: World, prune: Prune) -> None:
    images = world.add_bootimage("410.84.202110010000-0", REGIONS)
    world.branches["release-4.10"].insert(-1, world.branches["release-4.10"].pop(0))
    prune_all_but(prune, *images)
    assert all(image.tags == {"bootimage": "true"} for image in images)


def test_build_that_is_named_for_another_architecture_is_kept(world: World, prune: Prune) -> None:
    images = world.add_build(OTHER_BUILD, REGIONS, "bootimage")
    version = rhcos_json(BOOTIMAGE, REGIONS, world.directory)
    version["architectures"]["s390x"]["artifacts"]["qemu"] = {"release": OTHER_BUILD}
    world.add_commit(version)
    prune_all_but(prune, *images)


def test_image_that_is_named_by_its_id_is_kept_in_whatever_region_it_is(world: World, prune: Prune) -> None:
    image = world.add_build(OTHER_BUILD, [REGION], "bootimage")[0]
    version = rhcos_json(BOOTIMAGE, REGIONS, world.directory)
    regions = version["architectures"]["x86_64"]["images"]["aliyun"]["regions"]
    regions[OTHER_REGION] = {"release": BOOTIMAGE, "image": image.id}
    world.add_commit(version)
    prune_all_but(prune, image)


def test_second_image_of_a_bootimage_build_is_kept_under_another_builds_name(world: World, prune: Prune) -> None:
    image = EcsImage("m-second", "eu-west-1", BOOTIMAGE, "bootimage", name=f"rhcos-{PRIVATE_BUILD}")
    world.add_image(image)
    for build in (BOOTIMAGE, PRIVATE_BUILD):
        world.metas[meta_path(build)]["aliyun"].append({"name": image.region, "id": image.id})
    prune_all_but(prune, image)


def test_pinned_image_is_kept_named_and_recorded_as_not_deleted(world: World, prune: Prune) -> None:
    pinned = world.images_of(PUBLIC_BUILD)[0]
    pinned.kind, pinned.tags = "pinned", {"Bootimage": "TRUE"}
    run = prune_all_but(prune, pinned)
    assert pinned.tags == {"Bootimage": "TRUE"}
    assert run.line("WARNING", pinned.id, "pinned")
    assert [each["deleted"] for each in run.record[PUBLIC_BUILD]] == [False, True]


def test_image_that_is_pinned_between_two_looks_is_kept(world: World, prune: Prune) -> None:
    """Its deletion is throttled, and somebody pins it until the next minute begins."""
    image = world.images_of(PRIVATE_BUILD)[0]

    def pin(call: Call) -> None:
        if call.what == "DeleteImage" and image.id in call.ids:
            image.kind, image.tags = "pinned", {"bootimage": "true"}

    prune.faults.ecs = [EcsFault("DeleteImage", id=image.id, calls={1}, answer=THROTTLED)]
    prune.faults.on_call = pin
    prune.clock_speed = 60
    run = prune_all_but(prune, image)
    assert len([call for call in run.calls("ecs", "DeleteImage") if image.id in call.ids]) == 1


def test_image_that_an_instance_uses_is_kept_and_stays_public(world: World, prune: Prune) -> None:
    image = world.images_of(PUBLIC_BUILD)[0]
    image.kind, image.usage = "used", "instance"
    run = prune_all_but(prune, image)
    assert image.tags == {}
    assert run.line("WARNING", image.id, "instance")


def test_image_that_an_instance_begins_to_use_during_the_run_stays_public(world: World, prune: Prune) -> None:
    image = world.images_of(PUBLIC_BUILD)[0]

    def use(call: Call) -> None:
        if call.what == "TagResources" and image.id in call.ids:
            image.kind, image.usage = "used", "instance"

    prune.faults.ecs = [EcsFault("TagResources", id=image.id, calls={1}, answer=THROTTLED)]
    prune.faults.on_call = use
    prune.clock_speed = 60
    prune_all_but(prune, image)
    assert image.usage == "instance"


def test_image_of_another_account_is_kept_and_not_recorded_as_deleted(world: World, prune: Prune) -> None:
    image = world.add_build(OTHER_BUILD, [REGION], "another account's", owner=OTHER_KEY_ID, public=True)[0]
    run = prune_all_but(prune, image)
    assert run.line("WARNING", image.id, "account")
    assert run.record[image.build][0]["deleted"] is False


def test_young_build_is_kept_listed_or_on_record_and_an_older_one_is_not(world: World, prune: Prune) -> None:
    listed, on_record = (world.add_build(days_ago(age), [REGION], "young build")[0] for age in (29.9, 3))
    world.add_build(days_ago(30.1), REGIONS)
    prune.write_record({on_record.build: [{"region": REGION, "image": on_record.id, "deleted": False}]})
    run = prune_all_but(prune, listed, on_record)
    assert listed.build not in run.record


def test_image_of_another_release_is_kept_and_its_entry_unchanged(world: World, prune: Prune) -> None:
    image = world.add_build(OTHER_RELEASE, [REGION], "another release's", directory="releases/rhcos-4.11")[0]
    in_directory = world.add_build("49.84.202206070000-0", [REGION], "another release's")[0]
    record = {OTHER_RELEASE: [{"region": REGION, "image": image.id, "deleted": False}]}
    prune.write_record(record)
    run = prune_all_but(prune, image, in_directory)
    assert run.record[OTHER_RELEASE] == record[OTHER_RELEASE]
    assert in_directory.build not in run.record


def test_image_on_record_that_no_builds_json_lists_is_kept(world: World, prune: Prune) -> None:
    image = world.add_build(OTHER_BUILD, [REGION], "another release's")[0]
    world.listings[world.directory].pop(0)
    prune.write_record({OTHER_BUILD: [{"region": REGION, "image": image.id, "deleted": False}]})
    run = prune_all_but(prune, image)
    assert run.line("WARNING", image.id, "builds.json")
    assert run.record[OTHER_BUILD][0]["deleted"] is False


@pytest.mark.parametrize("name", [f"rhcos-{OTHER_RELEASE}", "my-server"], ids=["another build ID", "no build ID"])
def test_image_whose_name_has_another_or_no_build_id_is_kept(world: World, prune: Prune, name: str) -> None:
    image = world.images_of(PRIVATE_BUILD)[0]
    image.kind, image.name = "another release's", name
    run = prune_all_but(prune, image)
    assert run.line("WARNING", image.id, name)
