"""What is never deleted: the decision, a row for each promise; then runs, pins set meanwhile included.

What an image of each kind may not lose is checked at the end of every run.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PUBLIC_BUILD, REGIONS, Prune, make_region, make_release, make_seen
from world import OTHER_KEY_ID, PIN, EcsImage, World, build_id, days_ago, meta_path, rhcos_json

import main
from main import Image, ImageJob, Seen, State

REGION, OTHER_REGION = REGIONS
BUILD, OTHER_BUILD = "410.84.202205171530-0", "410.84.202206010000-0"
UNLISTED, IMPOSSIBLE_DATE = "410.84.202204010000-0", "410.84.202213450000-0"
OTHER_RELEASE, YOUNG = "411.86.202207150124-0", days_ago(main.YOUNG.days - 0.1)
TOO_YOUNG, NO_DATE = f"build younger than {main.YOUNG.days} days", "no date in the build ID"

IMAGE, NAMED = Image(REGION, "m-1", BUILD), Image(REGION, "m-named", BOOTIMAGE)
LISTED = (BOOTIMAGE, BUILD, OTHER_BUILD, IMPOSSIBLE_DATE, OTHER_RELEASE, YOUNG)
RELEASE = make_release(builds={build: {} for build in LISTED})
SEEN = make_seen(BUILD)

DECISIONS = {
    "rhcos.json names its ID": (NAMED, SEEN, main.BOOTIMAGE),
    "rhcos.json names its ID, and it is another account's": (NAMED, SEEN._replace(own=False), main.BOOTIMAGE),
    "named for a bootimage": (IMAGE, make_seen(BOOTIMAGE), main.BOOTIMAGE),
    "named for a bootimage behind another build": (IMAGE, make_seen(f"{BUILD}-was-{BOOTIMAGE}"), main.BOOTIMAGE),
    "another account's": (IMAGE, SEEN._replace(own=False), "account"),
    "pinned": (IMAGE, SEEN._replace(pin="pinned"), "pinned"),
    "used by an instance": (IMAGE, SEEN._replace(in_use=True), "instance"),
    "named for a young build": (IMAGE, make_seen(YOUNG), TOO_YOUNG),
    "named for an impossible date": (IMAGE, make_seen(IMPOSSIBLE_DATE), NO_DATE),
    "named for another release": (IMAGE, make_seen(OTHER_RELEASE), "build of another release"),
    "no builds.json lists the build in its name": (IMAGE, make_seen(UNLISTED), UNLISTED),
    "a digit behind its build ID": (IMAGE, make_seen(f"{BUILD}1"), f"{BUILD}1"),
    "a digit in front of its build ID": (IMAGE, make_seen(f"1{BUILD}"), f"1{BUILD}"),
    "named for two builds": (IMAGE, make_seen(f"{BUILD}-{OTHER_BUILD}"), "builds.json"),
    "no name": (IMAGE, SEEN._replace(name=""), "name"),
    "available, but shown without disks": (IMAGE, SEEN._replace(complete=False), "without disks"),
    "deleted: public, not yet tagged": (IMAGE, SEEN._replace(public=True, tag=""), ""),
    "deleted: another prefix in its name": (IMAGE, SEEN._replace(name=f"coreos-{BUILD}-copy"), ""),
    "deleted: named for another old build than the one that lists it": (IMAGE, make_seen(OTHER_BUILD), ""),
}


@pytest.mark.parametrize(("image", "seen", "word"), DECISIONS.values(), ids=DECISIONS)
def test_image_is_deleted_only_if_nothing_speaks_against_it(image: Image, seen: Seen, word: str) -> None:
    reason = main.reason_to_keep(image, seen, RELEASE)
    assert word in reason if word else reason == ""


PINS = {"bootimage=true", "Bootimage=true", "BOOTIMAGE=TRUE", "bootimage=yes", "bootimage=1", "bootimage=true "}
NO_PINS = {"bootimage=false", "BootImage=False", "bootimage=", "not-bootimage=true", "other=true"}


@pytest.mark.parametrize("first", ["bootimage=false", "Bootimage=", "a=true"])
def test_pin_is_any_value_but_false_of_any_capitalisation_in_any_order(first: str) -> None:
    for tag in (*PINS, *NO_PINS):
        for tags in ((first, tag), (tag, first)):
            shown = [dict(zip(("TagKey", "TagValue"), each.split("="))) for each in (*tags, "bootimage2=true")]
            pin = main.parse_seen({"Tags": {"Tag": shown}}).pin
            assert pin == (f"pinned by its tag bootimage={tag.partition('=')[2].strip()}" if tag in PINS else ""), tags


SHOWN = {"Tags": {"Tag": []}, "Usage": "none", "Status": "Available"}
DISKS = {"DiskDeviceMappings": {"DiskDeviceMapping": [{"SnapshotId": "s-1"}]}}


def test_image_is_in_use_or_incomplete_unless_it_is_shown_to_be_neither() -> None:
    for usage in (None, "", "instance", "something new"):
        assert main.parse_seen({**SHOWN, "Usage": usage}).in_use
    assert main.parse_seen({"Tags": {"Tag": []}}).in_use and not main.parse_seen(SHOWN).in_use
    no_snapshot = {"DiskDeviceMappings": {"DiskDeviceMapping": [{"Device": "/dev/xvda"}]}}
    second = {"DiskDeviceMappings": {"DiskDeviceMapping": [{"SnapshotId": "s-1"}, {"Device": "/dev/xvdb"}]}}
    shown = [SHOWN, SHOWN | no_snapshot, SHOWN | second]
    shown += [SHOWN | {"Status": status} for status in ("Creating", "Waiting", "Deprecated")]
    assert not any(main.parse_seen(each).complete for each in shown)
    assert all(main.parse_seen(each).complete for each in (SHOWN | DISKS, SHOWN | {"Status": "CreateFailed"}))


def test_tag_is_known_in_any_capitalisation_because_ecs_holds_keys_unique_so(world: World, prune: Prune) -> None:
    """To tag it again would be TagKey.Duplication in every run."""
    (bootimage, _), (image, _) = world.images_of(BOOTIMAGE), world.images_of(PUBLIC_BUILD)
    bootimage.tags, image.tags = {"BootImage": "True"}, {"BootImage": "False"}
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert (bootimage.tags, image.tags) == ({"BootImage": "True"}, {"BootImage": "False"})


def test_build_is_pruned_if_it_is_dated_and_old_enough_and_of_this_release() -> None:
    limit = datetime.now(timezone.utc) - main.YOUNG
    younger, older = (build_id("4.10", limit + timedelta(minutes=minutes)) for minutes in (2, -2))
    expected = {BUILD: "", older: "", younger: TOO_YOUNG, days_ago(-400): TOO_YOUNG}
    expected |= {BOOTIMAGE: main.BOOTIMAGE, "410.84.test-0": NO_DATE, IMPOSSIBLE_DATE: NO_DATE}
    expected |= dict.fromkeys([OTHER_RELEASE, "41.84.202205171530-0"], "build of another release")
    assert {build: main.reason_to_skip(build, RELEASE.history) for build in expected} == expected


def test_build_is_young_for_the_30_days_of_the_readme() -> None:
    reasons = [main.reason_to_skip(days_ago(days), RELEASE.history) for days in (29.9, 30.1)]
    assert reasons == [TOO_YOUNG, ""]


AGES = {"new": (0, 0, True), "59 s": (59, 59, True), "61 s": (61, 61, False), "the machine slept": (70, 5, False)}
AGES |= {"clock set back": (-5, 25, False), "clock set back for long": (10, 70, False)}


@pytest.mark.parametrize(("age", "steady", "fresh"), AGES.values(), ids=AGES)
def test_changes_rest_on_a_look_of_the_last_minute_by_both_clocks(age: float, steady: float, fresh: bool) -> None:
    region, (now, steady_now) = make_region(SimpleNamespace(), RELEASE), main.read_clocks()
    region.looked_at = (now - age, steady_now - steady)
    assert region.is_fresh() == fresh
    if not fresh:  # Any call would be an error.
        job = ImageJob(IMAGE, make_seen(BUILD, public=True, tag=""))
        assert not region.tag([job], "false") and not region.mark([job])
        region.delete(job)
        region.delete_snapshot(main.SnapshotJob(REGION, "s-1", None))
        assert (job.state, job.error, job.asked) == (State.OPEN, None, False)


def test_nothing_that_can_block_comes_between_check_and_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def log(event: str) -> bool:
        events.append(event)
        return True

    monkeypatch.setattr(main.image_log, "info", lambda *_: log("log"))
    region = make_region(SimpleNamespace(call=lambda *_, **__: log("delete")), RELEASE)
    monkeypatch.setattr(region, "is_fresh", lambda: log("check"))
    region.delete(ImageJob(IMAGE, SEEN))
    assert events == ["log", "check", "delete", "log"]


def test_bootimages_are_kept_and_tagged_from_whichever_list_they_come(world: World, prune: Prune) -> None:
    images = world.add_bootimage("410.84.202110010000-0", REGIONS)
    world.branches["release-4.10"].insert(-1, world.branches["release-4.10"].pop(0))  # An old version names it.
    images += world.add_build(OTHER_BUILD, REGIONS, "bootimage")
    images += world.add_build("410.84.202206030000-0", [REGION], "bootimage")
    images += world.add_build("410.84.202206020000-0", [REGION], "bootimage")
    version = rhcos_json(BOOTIMAGE, REGIONS, world.directory)
    gcp = {"name": "rhcos\N{EM DASH}410.84.202206030000-0 ", "url": "rhcos%20410.84.202206010000-0"}
    version["architectures"]["s390x"]["artifacts"]["gcp"] = gcp
    # By its ID, as an image of a region where it is not.
    version["architectures"]["x86_64"]["images"]["aliyun"]["regions"][OTHER_REGION]["image"] = images[-1].id
    world.add_commit(version)
    for id in ("m-uploaded", "m-recorded"):
        images.append(EcsImage(id, "eu-west-1", BOOTIMAGE, "bootimage", name=f"rhcos-{BUILD}"))
        world.add_image(images[-1])
    for build in (BOOTIMAGE, BUILD):
        world.metas[meta_path(build)]["aliyun"].append({"name": "eu-west-1", "id": "m-uploaded"})
    prune.write_record({BOOTIMAGE: [{"region": "eu-west-1", "image": "m-recorded", "deleted": True}]})
    del world.metas[meta_path(OLD_BOOTIMAGE)]["aliyun"]  # Only rhcos.json names its images.
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert [image.id for image in world.images.values() if image.kind == "bootimage" and image.tags != PIN] == []
    assert not {image.id for image in images if run.recorded.get(image.id)}


def test_image_of_each_other_kind_is_kept_named_and_not_on_record_as_deleted(world: World, prune: Prune) -> None:
    def add(build: str, kind: str = "another release's", **options: Any) -> EcsImage:
        return world.add_build(build, [REGION], kind, **options)[0]

    unlisted = add(UNLISTED)
    world.listings[world.directory].pop(0)
    on_record = [add(days_ago(3), "young build"), add(OTHER_RELEASE, directory="releases/rhcos-4.11"), unlisted]
    record = {image.build: [{"region": REGION, "image": image.id, "deleted": False}] for image in on_record}
    prune.write_record(record)
    words = {
        "pinned": add("410.84.202206010000-0", "pinned", tags={"Bootimage": "TRUE"}, public=True),
        "instance": add("410.84.202206020000-0", "used", usage="instance", public=True),
        "account": add("410.84.202206030000-0", "another account's", owner=OTHER_KEY_ID, public=True),
        "younger": on_record[0],
        "builds.json": unlisted,
        "my-server": add("410.84.202206040000-0", name="my-server"),
        OTHER_RELEASE: add("410.84.202206050000-0", name=f"rhcos-{OTHER_RELEASE}"),
    }
    for number, value in enumerate(("yes", "keep", "true ")):
        image = add(f"410.84.20220607000{number}-0", "pinned", tags={"bootimage": value})
        words[f"pinned by its tag bootimage={value.strip()}"] = image
    tags = [dict(image.tags) for image in words.values()]
    unread = [add(YOUNG, "young build"), add("49.84.202206070000-0"), add("410.84.test-0", "undated build")]
    add(days_ago(main.YOUNG.days + 0.1), "to be pruned")
    run = prune()
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert [image.tags for image in words.values()] == tags
    assert all(run.line("WARNING", image.id, word) for word, image in words.items())
    assert not any(run.recorded[image.id] for image in words.values())
    assert {image.build for image in unread}.isdisjoint(run.record) and run.record.items() >= record.items()
