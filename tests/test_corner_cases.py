"""Rare cases that would lose an image, flood the log, or give wrong advice."""

from __future__ import annotations

from datetime import datetime

import pytest
from faults import LOST, Answer, EcsFault
from harness import BOOTIMAGE, REGIONS, Prune
from world import World, commits_url, meta_path

REGION = REGIONS[0]
UNNAMED = "prod/streams/4.10-8.6/builds"


@pytest.mark.parametrize("directory", ["", UNNAMED], ids=["in no listing", "in a directory that answers 403"])
def test_image_in_a_region_that_rhcos_json_omits_is_kept_if_a_bootimage_build_is_not_listed(
    world: World, prune: Prune, directory: str
) -> None:
    bootimage = BOOTIMAGE
    if directory:
        bootimage = "410.84.202208010000-0"
        world.add_bootimage(bootimage, REGIONS, directory)
    image = world.add_build("410.84.202206010000-0", ["eu-west-1"], "bootimage", name=f"rhcos-{bootimage}")[0]
    meta = world.metas[meta_path(bootimage, directory=directory or world.directory)]
    meta["aliyun"].append({"name": image.region, "id": image.id})
    if directory:
        del world.listings[directory]
    else:
        listing = world.listings[world.directory]
        world.listings[world.directory] = [build for build in listing if build["id"] != bootimage]
    prune()
    assert image.listed


@pytest.mark.parametrize(
    ("answer", "first"), [(Answer(503), 3), (LOST, 4)], ids=["503 to the second look", "lost confirmation"]
)
def test_region_that_stops_answering_gets_one_line(world: World, prune: Prune, answer: Answer, first: int) -> None:
    world.add_builds_around(60, [REGION], datetime(2022, 2, 1), empty=1000)
    prune.faults.ecs = [EcsFault("DescribeImages", REGION, calls=range(first, 9999), answer=answer)]
    prune.clock_speed = 60
    run = prune()
    assert run.status == 1
    assert run.output.count(f"ERROR   {REGION}") == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(403, b"<html>Blocked by the proxy</html>"),
        Answer(
            403, {"message": "Resource protected by organization SAML enforcement."}, {"X-RateLimit-Remaining": "55"}
        ),
    ],
    ids=["proxy", "token without SSO"],
)
def test_403_of_github_without_retry_after_does_not_say_to_wait_for_it(prune: Prune, answer: Answer) -> None:
    prune.faults.answers[commits_url()] = answer
    run = prune()
    assert run.status == 1
    assert "after that many seconds" not in run.output
