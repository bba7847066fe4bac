"""The sandbox checks what the real services check."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import requests
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkecs.request.v20140526.DeleteImageRequest import DeleteImageRequest
from aliyunsdkecs.request.v20140526.DeleteSnapshotRequest import DeleteSnapshotRequest
from aliyunsdkecs.request.v20140526.DescribeImagesRequest import DescribeImagesRequest
from aliyunsdkecs.request.v20140526.DescribeSnapshotsRequest import DescribeSnapshotsRequest
from aliyunsdkecs.request.v20140526.ModifyImageSharePermissionRequest import ModifyImageSharePermissionRequest
from aliyunsdkecs.request.v20140526.TagResourcesRequest import TagResourcesRequest
from faults import FORBIDDEN, NO_IMAGES, THROTTLED, Answer, Call, EcsFault, Faults
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS
from proxy import Sandbox
from world import (
    CLOSED_REGIONS,
    KEY_ID,
    SECRET,
    STORE_HOST,
    STREAM_METADATA,
    World,
    builds_url,
    commit_url,
    ecs_host,
    image_id,
    rhcos_json,
)

COMMAND_LINE = [sys.executable, str(Path(__file__).parent / "sandbox.py")]
REGION = REGIONS[0]
IMAGE = image_id(PRIVATE_BUILD, REGION)
TAG = [{"Key": "bootimage", "Value": "false"}]


@contextlib.contextmanager
def running(world: World, faults: Faults | None = None, **options: Any) -> Iterator[Sandbox]:
    # The SDK sends no server name from Python 3.12 on.
    options.setdefault("check_server_name", False)
    with Sandbox(world, faults, **options) as sandbox, patch.dict(os.environ, sandbox.environment()):
        yield sandbox


def call(request: Any, **parameters: Any) -> Any:
    """One ECS operation in REGION; its answer, or the code by which it was refused."""
    request.set_protocol_type("https")
    request.set_endpoint(ecs_host(REGION))
    for name, value in parameters.items():
        getattr(request, f"set_{name}")(value)
    try:
        return json.loads(AcsClient(KEY_ID, SECRET, REGION, auto_retry=False).do_action_with_exception(request))
    except ServerException as error:
        return error.get_error_code()


def listed_images(*ids: str) -> list[str]:
    answer = call(DescribeImagesRequest(), ImageId=",".join(ids))
    return [image["ImageId"] for image in answer["Images"]["Image"]]


def test_snapshot_is_deleted_after_its_image_only(world: World) -> None:
    snapshot = world.snapshots_of(world.images[IMAGE])[0]
    with running(world):
        assert call(DeleteSnapshotRequest(), SnapshotId=snapshot.id) == "SnapshotCreatedImage"
        call(DeleteImageRequest(), ImageId=IMAGE)
        assert snapshot.listed
        assert call(DeleteSnapshotRequest(), SnapshotId=snapshot.id, Force="true") == "Forbidden.RAM"
        call(DeleteSnapshotRequest(), SnapshotId=snapshot.id)
        assert not snapshot.listed
        assert call(DeleteSnapshotRequest(), SnapshotId=snapshot.id) == "InvalidSnapshotId.NotFound"


def test_snapshots_are_found_by_tag_page_by_page(world: World) -> None:
    image = world.add_build("410.84.202206030000-0", [REGION], disks=120)[0]
    with running(world):
        for start in (0, 50, 100):
            ids = image.snapshots[start : start + 50]
            call(TagResourcesRequest(), ResourceType="snapshot", ResourceIds=ids, Tags=TAG)
        pages = [call(DescribeSnapshotsRequest(), Tags=TAG, PageSize=100, PageNumber=number) for number in (1, 2, 3)]
        some = call(DescribeSnapshotsRequest(), SnapshotIds=json.dumps(image.snapshots[:3]))
    assert [page["TotalCount"] for page in pages] == [120] * 3
    assert [len(page["Snapshots"]["Snapshot"]) for page in pages] == [100, 20, 0]
    assert some["TotalCount"] == 3


def test_limits_of_snapshot_operations(world: World) -> None:
    image = world.add_build("410.84.202206030000-0", [REGION], disks=101)[0]
    with running(world):
        assert call(DescribeSnapshotsRequest(), SnapshotIds=json.dumps(image.snapshots)) == "InvalidParameter"
        assert call(DescribeSnapshotsRequest(), SnapshotIds="s-1,s-2") == "InvalidParameter"
        assert call(DescribeSnapshotsRequest(), PageSize=101) == "InvalidParameter"
        ids = image.snapshots[:51]
        assert call(TagResourcesRequest(), ResourceType="snapshot", ResourceIds=ids, Tags=TAG) == "InvalidParameter"
        ids = [image.snapshots[0], "s-unknown"]
        assert (
            call(TagResourcesRequest(), ResourceType="snapshot", ResourceIds=ids, Tags=TAG)
            == "InvalidResourceId.NotFound"
        )


def test_refusals_of_the_api(world: World) -> None:
    world.images[IMAGE].usage = "instance"
    with running(world):
        listed = call(DescribeImagesRequest(), ImageId=IMAGE)["Images"]["Image"]
        assert [image["Usage"] for image in listed] == ["instance"]
        assert call(DeleteImageRequest(), ImageId=IMAGE) == "ImageUsingByInstance"
        assert call(ModifyImageSharePermissionRequest(), ImageId=IMAGE, IsPublic="false") == "Image.NotPublic"


def test_region_without_permission_lists_nothing_and_refuses_the_rest(world: World) -> None:
    with running(world, Faults(blind_regions={REGION})):
        assert listed_images(IMAGE) == []
        assert call(DescribeSnapshotsRequest())["TotalCount"] == 0
        assert call(DeleteImageRequest(), ImageId=IMAGE) == "Forbidden.RAM"


@pytest.mark.parametrize("region", [REGION, ""], ids=["one region", "all regions"])
def test_lacking_permission(world: World, region: str) -> None:
    with running(world, Faults(lacking={(region, "DeleteImage")})):
        assert listed_images(IMAGE) == [IMAGE]
        assert call(DeleteImageRequest(), ImageId=IMAGE) == "Forbidden.RAM"


def test_faults_of_single_calls(world: World) -> None:
    other = image_id(PUBLIC_BUILD, REGION)
    faults = Faults()
    faults.ecs = [
        EcsFault("DescribeImages", REGION, calls={2}, answer=NO_IMAGES),
        EcsFault("DescribeImages", calls=range(3, 5), hidden={IMAGE}),
        EcsFault("DeleteImage", id=other, answer=THROTTLED),
        EcsFault("DeleteImage", "cn-hangzhou", answer=FORBIDDEN),
        EcsFault("TagResources", answer=Answer(200, b"null")),
    ]
    with running(world, faults):
        assert [listed_images(IMAGE, other) for _ in range(5)] == [[IMAGE, other], [], [other], [other], [IMAGE, other]]
        assert call(DeleteImageRequest(), ImageId=other) == "Throttling.User"
        call(DeleteImageRequest(), ImageId=IMAGE)
        assert call(TagResourcesRequest(), ResourceType="image", ResourceIds=[other], Tags=TAG) is None
    assert not world.images[IMAGE].listed
    assert world.images[other].tags == {}


def test_world_changes_when_a_call_arrives(world: World) -> None:
    def pin(call: Call) -> None:
        if call.what == "DescribeImages" and IMAGE in call.ids:
            world.images[IMAGE].tags["bootimage"] = "true"

    with running(world, Faults(on_call=pin)) as sandbox:
        answer = call(DescribeImagesRequest(), ImageId=IMAGE)
    assert answer["Images"]["Image"][0]["Tags"] == {"Tag": [{"TagKey": "bootimage", "TagValue": "true"}]}
    assert [seen.ids for seen in sandbox.calls] == [(IMAGE,)]


def test_closed_region_is_no_more() -> None:
    world = World()
    images = world.add_bootimage(BOOTIMAGE, [REGION, *CLOSED_REGIONS])
    assert [image.state for image in images] == ["kept", "closed", "closed"]
    assert world.listed() == images[:1]
    with running(world) as sandbox:
        for region in CLOSED_REGIONS:
            with pytest.raises(requests.exceptions.ProxyError):
                requests.get(f"https://{ecs_host(region)}/", timeout=10)
    assert set(sandbox.refused) == {ecs_host(region) for region in CLOSED_REGIONS}


def test_commit_says_what_it_did_to_the_file(world: World) -> None:
    moved = world.add_commit(moved_to="data/data/rhcos.json")
    added = world.add_commit(rhcos_json(BOOTIMAGE, REGIONS, world.directory))
    removed = world.add_commit(other_files=300)
    with running(world, Faults(github_budget=4)):
        documents = {commit: requests.get(commit_url(commit), timeout=10).json() for commit in (moved, added)}
        first = requests.get(commit_url(removed), timeout=10)
        second = requests.get(first.links["next"]["url"], timeout=10)
        assert requests.get(commit_url(removed), timeout=10).headers["X-RateLimit-Remaining"] == "0"
    assert documents[moved]["files"][0]["previous_filename"] == STREAM_METADATA
    assert documents[added]["files"] == [{"filename": STREAM_METADATA, "status": "modified"}]
    assert len(first.json()["files"]) == 300
    assert second.json()["files"] == [{"filename": STREAM_METADATA, "status": "removed"}]
    assert "next" not in second.links


def test_tombstones_are_listed_apart(world: World) -> None:
    world.add_build("410.84.202206030000-0", REGIONS, tombstone=True)
    with running(world):
        listing = requests.get(builds_url(), timeout=10).json()
    assert listing["tombstone-builds"] == [{"id": "410.84.202206030000-0", "arches": ["x86_64"]}]
    assert len(listing["builds"]) == 5


@pytest.mark.parametrize("option", ["untrusted_hosts", "misnamed_hosts"])
def test_wrong_certificate(world: World, option: str) -> None:
    options: dict[str, Any] = {option: {STORE_HOST}}
    with running(world, **options) as sandbox, pytest.raises(requests.exceptions.SSLError):
        requests.get(builds_url(), timeout=10)
    assert sandbox.calls == []


def test_handshake_without_the_right_server_name_is_refused(world: World) -> None:
    with running(world, check_server_name=True) as sandbox:
        shake_hands(sandbox, STORE_HOST)
        for name in ("other.example", None):
            with pytest.raises(ssl.SSLError):
                shake_hands(sandbox, name)


def shake_hands(sandbox: Sandbox, name: str | None) -> None:
    """A TLS handshake with the store that sends this server name, or none."""
    context = ssl.create_default_context(cafile=sandbox.ca_file)
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", sandbox.listener.getsockname()[1])) as connection:
        connection.sendall(f"CONNECT {STORE_HOST}:443 HTTP/1.1\r\n\r\n".encode())
        assert b" 200 " in connection.recv(1000)
        context.wrap_socket(connection, server_hostname=name).close()


def read_all(descriptor: int) -> str:
    chunks = []
    with contextlib.suppress(OSError):  # Linux ends a terminal by EIO.
        while chunk := os.read(descriptor, 4096):
            chunks.append(chunk)
    return b"".join(chunks).decode()


def test_ctrl_c_reaches_the_command_once_and_the_report_follows() -> None:
    script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done"
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *COMMAND_LINE, "--builds", "2", "sh", "-c", script],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    output = os.read(master, 100).decode()
    os.write(master, b"\x03")
    output += read_all(master)
    assert process.wait(10) == 7
    assert output.count("caught") == 1
    assert "bootimages untouched" in output


def test_sigterm_ends_the_command_and_the_report_follows() -> None:
    command = [*COMMAND_LINE, "--builds", "2", "sh", "-c", "echo ready; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert "snapshots" in process.stdout.read()
        assert process.wait(10) == 128 + signal.SIGTERM
