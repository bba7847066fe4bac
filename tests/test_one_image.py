"""An image is one image, whoever lists it: what keeps it, even during a run, and the same outcome for each entry."""

from __future__ import annotations

from typing import Any

import pytest
from faults import THROTTLED, Call, EcsFault, Refused
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, Prune, Run
from world import EcsImage, World, image_id, meta_path

NEW_REGION = "eu-west-1"  # rhcos.json names no image there
OLDER, NEWER = "410.84.202201300000-0", "410.84.202210300000-0"


def entry(image: EcsImage, deleted: bool = False) -> dict[str, Any]:
    return {"region": image.region, "image": image.id, "deleted": deleted}


def deleted_on_record(run: Run, image: EcsImage) -> dict[str, bool]:
    """What the record says of the image, by build."""
    return {
        build: each["deleted"] for build, entries in run.record.items() for each in entries if each["image"] == image.id
    }


def list_by(world: World, build: str, image: EcsImage) -> None:
    """Make the build's meta.json list this image, too."""
    meta = world.metas[meta_path(build)]
    meta["aliyun"] = [*meta.get("aliyun", []), {"name": image.region, "id": image.id}]


def assert_kept(run: Run, image: EcsImage) -> None:
    assert run.status == 0
    assert image.listed
    assert image.tags != {"bootimage": "false"}
    assert not any(deleted_on_record(run, image).values())


# Several builds list an image


@pytest.mark.parametrize(
    ("build", "on_record"),
    [(OLDER, None), (OLDER, "without the image"), (NEWER, "with the image")],
    ids=["older build", "older build, on record", "newer build, on record with the image"],
)
def test_image_that_a_bootimage_build_lists_is_kept(
    world: World, prune: Prune, build: str, on_record: str | None
) -> None:
    image = world.add_build(build, [NEW_REGION], "bootimage")[0]
    list_by(world, BOOTIMAGE, image)
    if on_record:
        prune.write_record({BOOTIMAGE: [entry(image)] if on_record == "with the image" else []})
    run = prune()
    assert_kept(run, image)
    assert image.tags == {"bootimage": "true"}


KEEPING = {
    "bootimage": BOOTIMAGE,
}


@pytest.mark.parametrize(("kind", "build"), KEEPING.items(), ids=KEEPING)
def test_image_that_is_on_record_under_a_build_that_must_stay_is_kept(
    world: World, prune: Prune, kind: str, build: str
) -> None:
    image = world.add_build(OLDER, ["us-east-1"], kind)[0]
    prune.write_record({build: [entry(image)]})
    assert_kept(prune(), image)


@pytest.mark.parametrize(
    ("recorded_build", "deleted"),
    [(OLDER, True), (PRIVATE_BUILD, False)],
    ids=["on record as deleted", "on record as kept, under another build"],
)
def test_deleted_image_is_deleted_in_every_entry(
    world: World, prune: Prune, recorded_build: str, deleted: bool
) -> None:
    for build in {OLDER, NEWER}:
        world.add_build(build)
    image = world.images_of(PUBLIC_BUILD)[0]
    for build in (OLDER, NEWER):
        list_by(world, build, image)
    prune.write_record({recorded_build: [entry(image, deleted)]})
    run = prune()
    assert run.status == 0
    assert not image.listed
    assert deleted_on_record(run, image) == dict.fromkeys({OLDER, NEWER, PUBLIC_BUILD, recorded_build}, True)
    assert len([call for call in run.calls("ecs", "DeleteImage") if image.id in call.ids]) == 1


@pytest.mark.parametrize("reason", ["pinned", "failed"])
def test_image_that_stays_is_not_deleted_in_any_entry(world: World, prune: Prune, reason: str) -> None:
    world.add_build(OLDER)
    image = world.images_of(PUBLIC_BUILD)[0]
    list_by(world, OLDER, image)
    prune.write_record({PRIVATE_BUILD: [entry(image, deleted=True)]})
    if reason == "pinned":
        image.kind, image.tags = "pinned", {"bootimage": "true"}
    else:
        prune.faults.refusals["DeleteImage", image.id] = Refused(403, "ImageIsExporting")
    run = prune()
    assert run.status == (0 if reason == "pinned" else 1)
    assert deleted_on_record(run, image) == dict.fromkeys([OLDER, PUBLIC_BUILD, PRIVATE_BUILD], False)


# Closed regions


def test_image_on_record_in_a_closed_region_is_recorded_as_deleted(world: World, prune: Prune) -> None:
    closed = {"region": "ap-south-1", "image": "m-1", "deleted": False}
    prune.write_record({PUBLIC_BUILD: [closed]})
    run = prune()
    assert run.status == 0
    assert run.record[PUBLIC_BUILD] == [{**closed, "deleted": True}]


# Used by an instance


def test_image_that_an_instance_uses_is_kept_and_stays_public(world: World, prune: Prune) -> None:
    image = world.images_of(PUBLIC_BUILD)[0]
    image.usage = "instance"
    run = prune()
    assert_kept(run, image)
    assert image.public
    assert run.line("WARNING", image.id, "used by an instance")
    assert run.line("images kept", "1 used by an instance")


# Pinned


def at_second_look(prune: Prune, image: EcsImage, change: Any) -> None:
    """Make this change when the second DescribeImages call that names the image arrives."""
    looks = []

    def on_call(call: Call) -> None:
        if call.what == "DescribeImages" and image.id in call.ids:
            looks.append(call)
            if len(looks) == 2:
                change()

    prune.faults.on_call = on_call


def pin(image: EcsImage) -> None:
    image.kind, image.tags = "pinned", {"bootimage": "true"}


@pytest.mark.parametrize(("key", "value"), [("bootimage", "true"), ("BOOTIMAGE", "TRUE")])
def test_pin_in_any_capitalisation_keeps_an_image(world: World, prune: Prune, key: str, value: str) -> None:
    image = world.images_of(PUBLIC_BUILD)[0]
    image.kind, image.tags = "pinned", {"owner": "somebody", key: value}
    run = prune()
    assert_kept(run, image)
    assert image.tags == {"owner": "somebody", key: value}
    assert run.line("WARNING", image.id, "pinned")


@pytest.mark.parametrize(("key", "value"), [("bootimage", "false"), ("not-bootimage", "true")])
def test_other_tag_does_not_keep_an_image(world: World, prune: Prune, key: str, value: str) -> None:
    image = world.images_of(PUBLIC_BUILD)[0]
    image.tags = {key: value}
    assert prune().status == 0
    assert not image.listed


@pytest.mark.parametrize(
    ("operation", "build"),
    [("TagResources", PUBLIC_BUILD), ("ModifyImageSharePermission", PUBLIC_BUILD), ("DeleteImage", PRIVATE_BUILD)],
)
def test_image_that_is_pinned_while_an_operation_is_throttled_is_kept(
    world: World, prune: Prune, operation: str, build: str
) -> None:
    image = world.images_of(build)[0]
    prune.faults.ecs = [EcsFault(operation, id=image.id, calls={1, 2}, answer=THROTTLED)]
    prune.faults.on_call = lambda call: pin(image) if call.what == operation and image.id in call.ids else None
    prune.clock_speed = 60
    run = prune()
    assert_kept(run, image)
    assert image.tags == {"bootimage": "true"}
    assert run.line("WARNING", image.id, "pinned")
    assert world.listed("to be pruned") == []


def test_no_deletion_rests_on_a_look_that_is_older_than_a_minute(world: World, prune: Prune) -> None:
    for n in range(30):
        world.add_build(f"410.84.2022021{n // 10}0{n % 10}00-0", ["us-east-1"])
    prune.faults.calls_a_minute = 10
    prune.clock_speed = 30

    order: list[str] = []

    # The last image of the look comes after more than a minute.
    def pin_one_when_throttled(call: Call) -> None:
        if call.what == "DescribeImages" and call.where == "us-east-1":
            order[:] = [id for id in call.ids if world.images[id].kind == "to be pruned"]
        calls = [n for (_, name, _), n in started.sandbox.ecs.calls_in_minute.items() if name == "DeleteImage"]
        if max(calls, default=0) > 10 and not world.listed("pinned"):
            pin(world.images[order[-1]])

    prune.faults.on_call = pin_one_when_throttled
    with prune.started() as started:
        run = started.finish()
    assert run.status == 0
    assert len(world.listed("pinned")) == 1
    assert world.listed("to be pruned") == []
    ages = []
    looked_at: dict[str, float] = {}
    for call in run.calls("ecs"):
        if call.what == "DescribeImages":
            looked_at.update(dict.fromkeys(call.ids, call.at))
        elif call.what == "DeleteImage" and call.status == 200:
            ages.append(call.at - looked_at[call.ids[0]])
    assert len(ages) == 33
    assert max(ages) <= 60 + 0.5 * prune.clock_speed  # a request is under way for less than half a second


def test_image_id_is_the_same_image_in_the_record_and_in_a_list(world: World, prune: Prune) -> None:
    image = world.images_of(PUBLIC_BUILD)[0]
    prune.write_record({PUBLIC_BUILD: [entry(image), entry(image)]})
    run = prune()
    assert run.status == 0
    assert [each["deleted"] for each in run.record[PUBLIC_BUILD]] == [True, True]
    assert (
        len([call for call in run.calls("ecs", "DeleteImage") if call.ids == (image_id(image.build, image.region),)])
        == 1
    )
