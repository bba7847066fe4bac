"""The decisions on a build and on an image, as plain functions: one row for each promise."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from world import build_id, days_ago

import main
from main import CloudImage, Image, Release, reason_to_keep, reason_to_skip

BOOTIMAGE = "410.84.202207061638-0"
BUILD = "410.84.202205171530-0"
OTHER_BUILD = "410.84.202203010900-0"
UNDATED = "410.84.test-0"
OTHER_RELEASE = "411.86.202207150124-0"
YOUNG = days_ago(29.9)

NAMED = Image("us-east-1", "m-named", (BOOTIMAGE,))
RELEASE = Release(
    "4.10",
    frozenset({BOOTIMAGE}),
    {NAMED.id: NAMED},
    {build: [] for build in (BOOTIMAGE, BUILD, OTHER_BUILD, UNDATED, OTHER_RELEASE, YOUNG)},
)
SEEN = CloudImage(
    own=True, public=False, in_use=False, pinned=False, tag="false", name=f"rhcos-{BUILD}", snapshots=("s-1",)
)


def image(*builds: str, id: str = "m-1") -> Image:
    return Image("us-east-1", id, builds or (BUILD,))


KEPT = {
    "its build is a bootimage": (image(BOOTIMAGE), SEEN, main.BOOTIMAGE),
    "its ID is named": (image(id=NAMED.id), SEEN, main.BOOTIMAGE),
    "one of the builds that list it is a bootimage": (image(BUILD, BOOTIMAGE), SEEN, main.BOOTIMAGE),
    "another account owns it": (image(), SEEN._replace(own=False), "not the account's own"),
    "pinned": (image(), SEEN._replace(pinned=True), "pinned by its tag bootimage=true"),
    "an instance uses it": (image(), SEEN._replace(in_use=True), "used by an instance"),
    "young build": (image(YOUNG), SEEN, main.TOO_YOUNG),
    "one of the builds that list it is young": (image(BUILD, YOUNG), SEEN, main.TOO_YOUNG),
    "no date": (image(UNDATED), SEEN, main.NO_DATE),
    "another release": (image(OTHER_RELEASE), SEEN, main.OTHER_RELEASE),
    "one of the builds that list it is of another release": (image(BUILD, OTHER_RELEASE), SEEN, main.OTHER_RELEASE),
    "no builds.json lists its build": (image("410.84.202204010000-0"), SEEN, main.UNLISTED),
    "its name contains another build ID": (
        image(),
        SEEN._replace(name=f"rhcos-{OTHER_BUILD}"),
        f"its name 'rhcos-{OTHER_BUILD}' does not contain the ID of its build",
    ),
    "its name contains a longer build ID": (
        image(),
        SEEN._replace(name=f"rhcos-{BUILD}1"),
        f"its name 'rhcos-{BUILD}1' does not contain the ID of its build",
    ),
    "its name contains no build ID": (
        image(),
        SEEN._replace(name=""),
        "its name '' does not contain the ID of its build",
    ),
}


@pytest.mark.parametrize(("listed", "seen", "reason"), KEPT.values(), ids=KEPT)
def test_image_is_kept(listed: Image, seen: CloudImage, reason: str) -> None:
    assert reason_to_keep(listed, seen, RELEASE) == reason


DELETED = {
    "old build": (image(), SEEN),
    "two old builds": (image(BUILD, OTHER_BUILD), SEEN),
    "public": (image(), SEEN._replace(public=True)),
    "another prefix in its name": (image(), SEEN._replace(name=f"coreos-{BUILD}-copy")),
}


@pytest.mark.parametrize(("listed", "seen"), DELETED.values(), ids=DELETED)
def test_image_may_be_deleted(listed: Image, seen: CloudImage) -> None:
    assert reason_to_keep(listed, seen, RELEASE) is None


def ago(**age: float) -> str:
    return build_id("4.10", datetime.now(timezone.utc) - timedelta(**age))


SKIPPED = {
    "to be pruned": (BUILD, [], None),
    "on record": (BUILD, [BUILD], main.ON_RECORD),
    "a minute younger than 30 days": (ago(days=30, minutes=-2), [], main.TOO_YOUNG),
    "a minute older than 30 days": (ago(days=30, minutes=2), [], None),
    "from the future": (ago(days=-400), [], main.TOO_YOUNG),
    "young and on record": (YOUNG, [YOUNG], main.TOO_YOUNG),
    "no date": (UNDATED, [], main.NO_DATE),
    "impossible date": ("410.84.202213450000-0", [], main.NO_DATE),
    "another release": (OTHER_RELEASE, [], main.OTHER_RELEASE),
    "a release with the same first digits": ("41.84.202205171530-0", [], main.OTHER_RELEASE),
}


@pytest.mark.parametrize(("build", "record", "reason"), SKIPPED.values(), ids=SKIPPED)
def test_reason_to_skip_a_build(build: str, record: list[str], reason: str | None) -> None:
    assert reason_to_skip(build, "4.10", record) == reason


@pytest.mark.parametrize(("failures", "most"), [(1, 0.25), (2, 0.5), (4, 2.0), (6, 5.0), (100, 5.0)])
def test_pause_after_failures_doubles_with_jitter_up_to_five_seconds(failures: int, most: float) -> None:
    pauses = {main.backoff(failures) for _ in range(200)}
    assert most * 0.5 <= min(pauses) < most * 0.6
    assert most * 0.9 < max(pauses) <= most
