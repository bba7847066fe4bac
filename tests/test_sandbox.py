"""The sandbox checks what the real services check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from faults import Faults
from harness import MAIN, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS
from sandbox import Sandbox
from world import KEY_ID, SECRET, World, image_id

import main

REGION = REGIONS[0]
IMAGE, PUBLIC = image_id(PRIVATE_BUILD, REGION), image_id(PUBLIC_BUILD, REGION)
SANDBOX = MAIN.parent / "tests" / "sandbox.py"
TAG = {"ResourceType": "image", "Tags": [{"Key": "bootimage", "Value": "false"}]}
REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("DescribeImages", {"secret": "another secret"}, "InvalidAccessKeySecret"),
    ("DescribeImages", {"PageSize": 101}, "InvalidParameter"),
    ("DescribeImages", {"ImageId": ",".join(f"m-{n}" for n in range(101))}, "InvalidParameter"),
    ("TagResources", {**TAG, "ResourceIds": [f"m-{n}" for n in range(51)]}, "InvalidParameter"),
    ("TagResources", {**TAG, "ResourceIds": [IMAGE, "m-unknown"]}, "InvalidResourceId.NotFound"),
    ("ModifyImageSharePermission", {"ImageId": IMAGE, "IsPublic": "false"}, "Image.NotPublic"),
    ("DeleteImage", {"ImageId": PUBLIC}, "ImageIsPublic"),
    ("DeleteImage", {"ImageId": IMAGE, "Force": "true"}, "Forbidden.RAM"),
    ("DescribeSnapshots", {"SnapshotIds": "s-1,s-2"}, "InvalidParameter"),
    ("DescribeSnapshots", {"Tags": [{"Key": "bootimage", "Value": "true"}]}, "InvalidParameter"),
    ("DeleteSnapshot", {"SnapshotId": IMAGE.replace("m-", "s-")}, "SnapshotCreatedImage"),
]


def ask(sandbox: Sandbox, request: str, secret: str = SECRET, **parameters: Any) -> Any:
    """The answer to an ECS call, or the code by which it is refused."""
    ecs = main.Ecs(REGION, main.Environment(KEY_ID, secret, "", "", sandbox.ca_file, sandbox.ca_file))
    with patch.dict(os.environ, sandbox.environment()):
        try:
            return ecs.call(getattr(main, f"{request}Request"), **parameters)
        except main.OutsideError as error:
            return error.code


def test_sandbox_refuses_what_ecs_refuses(world: World) -> None:
    with Sandbox(world) as sandbox:
        for request, parameters, code in REFUSALS:
            assert ask(sandbox, request, **parameters) == code, (request, code)
    assert world.images[IMAGE].tags == {}


def test_sandbox_lists_ten_available_images_a_page_and_throttles(world: World) -> None:
    world.add_builds_around(20, [REGION])
    world.images[IMAGE].status = "UnAvailable"
    with Sandbox(world, Faults(calls_a_minute=1)) as sandbox:
        answers = [ask(sandbox, "DescribeImages") for _ in range(3)]
    assert (len(answers[0]["Images"]["Image"]), answers[0]["TotalCount"]) == (10, len(world.listed()) - 5)
    assert "Throttling.User" in answers


def test_command_line_reports_what_the_command_did(tmp_path: Path) -> None:
    def run(*args: str) -> str:
        command = [sys.executable, str(SANDBOX), "--builds", "2", *args]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    output = run(str(MAIN), "--dry-run", "4.10")
    assert re.search(r"bootimages untouched: (\d+) of \1,", output) and "requests:" in output
    outage = ["--outage", "store unavailable", "--outage-seconds", "0.1"]
    assert "ended with status 0" in run(*outage, str(MAIN), "4.10")  # The outage has ended.
