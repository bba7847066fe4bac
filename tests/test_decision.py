"""Who decides what is never deleted: one row for each promise."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from world import build_id, days_ago

import main
from main import Image, Outcome, Release, Result, Seen

BOOTIMAGE, BUILD, OTHER_BUILD = "410.84.202207061638-0", "410.84.202205171530-0", "410.84.202203010900-0"
OTHER_RELEASE, YOUNG = "411.86.202207150124-0", days_ago(29.9)
NAMED = Image("us-east-1", "m-named", BOOTIMAGE)
IMAGE = Image("us-east-1", "m-1", BUILD)
BUILDS = (BOOTIMAGE, BUILD, OTHER_BUILD, OTHER_RELEASE, YOUNG, "410.84.202213450000-0")
RELEASE = Release("4.10", frozenset({BOOTIMAGE}), {NAMED.id: NAMED}, {}, BUILDS)
SEEN = Seen(True, False, False, False, "", f"rhcos-{BUILD}", ("s-1",))


def named(name: str) -> Seen:
    return SEEN._replace(name=name)


KEPT = {
    "rhcos.json names its ID": (NAMED, SEEN, main.BOOTIMAGE),
    "its build is a bootimage": (IMAGE, named(f"rhcos-{BOOTIMAGE}"), main.BOOTIMAGE),
    "a bootimage of another account": (NAMED, SEEN._replace(own=False), main.BOOTIMAGE),
    "another account owns it": (IMAGE, SEEN._replace(own=False), "own"),
    "pinned": (IMAGE, SEEN._replace(pinned=True), main.PINNED),
    "an instance uses it": (IMAGE, SEEN._replace(in_use=True), "instance"),
    "young build": (IMAGE, named(f"rhcos-{YOUNG}"), main.TOO_YOUNG),
    "another release": (IMAGE, named(f"rhcos-{OTHER_RELEASE}"), main.OTHER_RELEASE),
    "impossible date": (IMAGE, named("rhcos-410.84.202213450000-0"), main.NO_DATE),
    "no builds.json lists its build": (IMAGE, named("rhcos-410.84.202204010000-0"), "builds.json"),
    "a longer build ID": (IMAGE, named(f"rhcos-{BUILD}1"), "builds.json"),
    "a build ID behind another number": (IMAGE, named(f"rhcos-1{BUILD}"), "builds.json"),
    "no build ID": (IMAGE, named("rhcos"), "builds.json"),
    "two build IDs": (IMAGE, named(f"rhcos-{BUILD}-{OTHER_BUILD}"), "builds.json"),
    "a bootimage behind another build": (IMAGE, named(f"rhcos-{BUILD}-was-{BOOTIMAGE}"), main.BOOTIMAGE),
    "no name": (IMAGE, named(""), "builds.json"),
}


@pytest.mark.parametrize(("image", "seen", "reason"), KEPT.values(), ids=KEPT)
def test_image_is_kept(image: Image, seen: Seen, reason: str) -> None:
    assert reason in main.reason_to_keep(image, seen, RELEASE)
    assert main.reason_to_keep(image, seen, RELEASE)


DELETED = {
    "old build": SEEN,
    "named for another old build than the one that lists it": named(f"rhcos-{OTHER_BUILD}"),
    "public": SEEN._replace(public=True),
    "tagged otherwise": SEEN._replace(tag="no"),
    "another prefix in its name": named(f"coreos-{BUILD}-copy"),
}


@pytest.mark.parametrize("seen", DELETED.values(), ids=DELETED)
def test_image_may_be_deleted(seen: Seen) -> None:
    assert main.reason_to_keep(IMAGE, seen, RELEASE) == ""


def ago(**age: float) -> str:
    return build_id("4.10", datetime.now(timezone.utc) - timedelta(**age))


SKIPPED = {
    "old": (BUILD, ""),
    "bootimage": (BOOTIMAGE, main.BOOTIMAGE),
    "a minute younger than 30 days": (ago(days=30, minutes=-2), main.TOO_YOUNG),
    "a minute older than 30 days": (ago(days=30, minutes=2), ""),
    "from the future": (ago(days=-400), main.TOO_YOUNG),
    "no date": ("410.84.test-0", main.NO_DATE),
    "impossible date": ("410.84.202213450000-0", main.NO_DATE),
    "another release": (OTHER_RELEASE, main.OTHER_RELEASE),
    "a release with the same first digits": ("41.84.202205171530-0", main.OTHER_RELEASE),
}


@pytest.mark.parametrize(("build", "reason"), SKIPPED.values(), ids=SKIPPED)
def test_build_is_considered_only_if_it_is_old_and_of_this_release(build: str, reason: str) -> None:
    assert main.reason_to_skip(build, RELEASE) == reason


def tags(**tags: str) -> dict[str, object]:
    return {"Tags": {"Tag": [{"TagKey": key, "TagValue": value} for key, value in tags.items()]}}


@pytest.mark.parametrize("pin", [{"bootimage": "true"}, {"Bootimage": "True"}, {"BOOTIMAGE": "TRUE"}], ids=str)
def test_pin_counts_in_any_capitalisation(pin: dict[str, str]) -> None:
    assert main.parse_resource(tags(owner="somebody", **pin)).pinned


@pytest.mark.parametrize("tag", [{}, {"bootimage": "false"}, {"bootimage": ""}, {"not-bootimage": "true"}], ids=str)
def test_other_tag_is_no_pin(tag: dict[str, str]) -> None:
    assert not main.parse_resource(tags(**tag)).pinned


def entry(image: str, deleted: bool) -> dict[str, object]:
    return {"region": "us-east-1", "image": image, "deleted": deleted}


def test_images_to_look_at() -> None:
    """All bootimages, whatever list names them, and all that is not on record as deleted."""
    uploads = {BUILD: [IMAGE], BOOTIMAGE: [Image("us-east-1", "m-second", BOOTIMAGE)]}
    record = {
        OTHER_BUILD: [entry("m-failed", False), entry("m-gone", True), entry("m-twice", True)],
        "410.84.202204010000-0": [entry("m-twice", False)],
        BOOTIMAGE: [entry("m-recorded", True)],
        OTHER_RELEASE: [entry("m-other-release", False)],
    }
    release, images = main.find_images(RELEASE, uploads, record)
    assert set(release.images) == {"m-named", "m-second", "m-recorded"}
    assert {image.id for image in images} == {*release.images, "m-1", "m-failed", "m-twice"}
    assert set(release.known) == {image.id for image in images} | {"m-gone"}
    assert set(release.read) == {*uploads, *record}


def test_image_that_a_bootimage_build_and_another_list_is_a_bootimage() -> None:
    both = [Image("us-east-1", "m-both", build) for build in (BOOTIMAGE, BUILD)]
    for order in (both, both[::-1]):
        release, _ = main.find_images(RELEASE, {image.build: [image] for image in order}, {})
        assert main.reason_to_keep(order[0], named(f"rhcos-{BUILD}"), release) == main.BOOTIMAGE


RESULTS = {
    "deleted": (Outcome(Result.DELETED, "", SEEN), True, True),
    "gone": (Outcome(Result.GONE), True, True),
    "kept": (Outcome(Result.KEPT, "pinned", SEEN), False, False),
    "failed, and seen": (Outcome(Result.FAILED, "500", SEEN), False, False),
    "failed, and not seen": (Outcome(Result.FAILED, "500"), True, False),
    "not listed": (Outcome(Result.KEPT, main.NOT_LISTED), True, False),
}


@pytest.mark.parametrize(("outcome", "recorded", "new"), RESULTS.values(), ids=RESULTS)
def test_record_says_deleted_only_of_what_was_shown_to_be_gone(outcome: Outcome, recorded: bool, new: bool) -> None:
    """An entry that is true stays true unless this run has seen the image."""
    record = {OTHER_BUILD: [{**entry("m-1", True), "note": "mine"}], OTHER_RELEASE: [entry("m-2", False)]}
    uploads = {BUILD: [IMAGE], BOOTIMAGE: [IMAGE], YOUNG: [IMAGE]}
    updated = main.update_record(record, uploads, RELEASE, {IMAGE: outcome})
    assert updated == {
        OTHER_BUILD: [{**entry("m-1", recorded), "note": "mine"}],
        OTHER_RELEASE: [entry("m-2", False)],
        BUILD: [entry("m-1", new)],
    }
