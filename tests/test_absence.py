"""What a service does not show is not therefore gone: an image, a commit, a directory, the images of a build."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from faults import NO_IMAGES, Fault
from harness import BOOTIMAGE, OLD_BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, recorded
from world import EcsImage, World, days_ago, image_id, rhcos_json

import main
from main import Image, Outcome, Result, Seen

REGION, OTHER_REGION = REGIONS


def test_list_of_commits_is_believed_only_if_it_ends_with_the_oldest_one() -> None:
    commits = [*(f"{number:040x}" for number in range(249)), main.OLDEST_COMMIT]
    first, second, third = commits[:100], commits[100:200], commits[200:]

    def list_commits(*pages: list[str]) -> list[str]:
        listed = {str(number): [{"sha": commit} for commit in page] for number, page in enumerate(pages, 1)}
        web: Any = SimpleNamespace(get_json=lambda url, _: listed.get(url.rpartition("=")[2], []))
        return main.list_commits(web, "4.10")

    assert list_commits(first, second, third) == commits
    assert list_commits(first, commits[-100:]) == first + commits[-100:]  # The last page may be full.
    again = [first, second, first, ["is not asked for"]]
    for pages in ([], [first[:1]], [first, [], third], [first, second], [first, second, third[:-1]], again):
        with pytest.raises(main.Refusal, match=r"incomplete.* run again"):
            list_commits(*pages)


def test_listing_that_shifts_between_two_pages_is_read_to_its_end() -> None:
    """One more, listed first, moves all others by one; a page that comes again is the end."""
    ids = [f"s-{number}" for number in range(250)]
    pages = {1: ids[:100], 2: ids[99:199], 3: ids[199:]}

    def fetch(page: int) -> main.Look[Seen]:
        return main.Look(dict.fromkeys(pages[page], SEEN), main.read_clocks())

    assert list(main.list_all(fetch, main.Patience())) == ids
    pages[3] = pages[2]
    assert len(main.list_all(fetch, main.Patience())) == 199


BOOTIMAGES = {"m-boot": Image(REGION, "m-boot", BOOTIMAGE)}
SEEN = Seen(True, False, False, False, "", f"rhcos-{PRIVATE_BUILD}", ("s-1",))
ABSENT = {
    "with a witness": ("m-1", "m-boot", False, Outcome(Result.GONE, "no longer listed")),
    "a bootimage": ("m-boot", "m-other", False, Outcome(Result.GONE, main.BOOTIMAGE)),
    "its deletion was not answered": ("m-1", "m-boot", True, Outcome(Result.DELETED, "", SEEN)),
    "without a witness": ("m-1", "", True, Outcome(Result.KEPT, main.NOT_LISTED)),
}


@pytest.mark.parametrize(("id", "witness", "begun", "outcome"), ABSENT.values(), ids=ABSENT)
def test_absent_image_is_gone_only_with_a_witness(
    region: Any, id: str, witness: str, begun: bool, outcome: Outcome
) -> None:
    image = Image(REGION, id, PRIVATE_BUILD)
    release = main.Release("4.10", frozenset({BOOTIMAGE}), BOOTIMAGES, {})
    here = region(SimpleNamespace(delete=lambda _: None), release, {id: SEEN}, (witness,) if witness else ())
    if begun:
        here.delete_image(main.Look({id: SEEN}, main.read_clocks()), image)
    assert here.decide(image, None) == outcome


def test_witness_of_a_region_without_bootimages_is_best_an_image_of_no_build() -> None:
    """Another release's run may delete its builds' images."""
    names = {"m-1": "no candidate's", "m-2": "rhcos-411.86.202207150124-0", "m-3": "my-server", "m-4": ""}
    own = {id: SEEN._replace(name=name) for id, name in names.items()}
    ecs: Any = SimpleNamespace(region=REGION, patience=main.Patience())
    ecs.images = lambda _, **__: main.Look(own, main.read_clocks())
    release = main.Release("4.10", frozenset(), {}, {"m-1": Image(OTHER_REGION, "m-1", PRIVATE_BUILD)})
    assert main.open_region(main.FirstLook(ecs), release, main.parse_args(["4.10"])).witness == ("m-3",)


@pytest.mark.parametrize("looks", [2, 4], ids=["before it deletes", "before it confirms"])
def test_image_is_not_gone_if_the_witness_is_not_listed_either(world: World, prune: Prune, looks: int) -> None:
    prune.faults.failing = [Fault("DescribeImages", NO_IMAGES, REGION, calls=range(looks + 1, sys.maxsize))]
    prune.clock_speed = 150
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", REGION, "which should be there, is not listed", "ecs:DescribeImages")
    deleted = {id for id, is_deleted in recorded(run).items() if is_deleted}
    assert deleted == {image_id(build, OTHER_REGION) for build in (PUBLIC_BUILD, PRIVATE_BUILD)}


def test_build_that_a_missing_directory_may_list_too_does_not_go_on_record(world: World, prune: Prune) -> None:
    directory = "prod/streams/4.10-8.6/builds"
    world.add_commit(rhcos_json(OLD_BOOTIMAGE, REGIONS, directory))
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", directory)
    assert world.listed("to be pruned") == []
    assert run.record == {}


def test_image_that_no_list_names_stays_with_a_warning_if_its_build_was_read(world: World, prune: Prune) -> None:
    young = days_ago(5)  # whose images a run does not look for
    world.add_build(young)
    unlisted = [EcsImage(f"m-of-{build}", REGION, build, "not listed") for build in (PUBLIC_BUILD, young)]
    unlisted.append(EcsImage("m-other", REGION, "", "not listed", name="my-server"))
    for image in unlisted:
        world.add_image(image)
    run = prune()
    assert run.status == 0
    assert run.line("WARNING", REGION, unlisted[0].id, "stays")
    assert not any(image.id in run.output for image in unlisted[1:])
    assert [image.tags for image in unlisted if image.listed] == [{}, {}, {}]
