"""Data of another shape is refused, as plain functions; for some of each table a run shows what follows from that."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS
from world import DIRECTORY, KEY_ID, STREAM_METADATA, image_id, rhcos_json

import main

SECRET_OF_PROXY = "deployer:s3cretOfTheProxy"


def accepted(check: Callable[[Any], object], data: Mapping[str, Any], *errors: type[Exception]) -> list[str]:
    """The names of the data for which the check raises none of these errors."""
    names = []
    for name, each in data.items():
        try:
            check(each)
        except errors:
            continue
        names.append(name)
    return names


# The command line and the environment


def test_releases() -> None:
    releases = ["4", "4.10.1", "v4.10", "rhcos-4.10", "4.1x", "4.010", "", "٤.١٠"]  # noqa: RUF001
    assert accepted(main.release_number, {each: each for each in releases}, argparse.ArgumentTypeError) == []
    assert main.release_number("4.10") == "4.10"


SECRETS = {
    "typographic quotes": "\N{LEFT DOUBLE QUOTATION MARK}%s\N{RIGHT DOUBLE QUOTATION MARK}",
    "line break inside": "half\n%s",
    "carriage return inside": "half\r%s",
    "space inside": "half %s",
    "control character": "%s\x01half",
    "escape sequence": "\x1b[200~%s\x1b[201~",
    "not ASCII": "%s\N{LATIN SMALL LETTER E WITH ACUTE}",
    "not UTF-8": "%s\udcff",
}


@pytest.mark.parametrize("required", [True, False])
def test_secrets(monkeypatch: pytest.MonkeyPatch, required: bool) -> None:
    def read(form: str) -> str:
        monkeypatch.setenv("ALIYUN_ACCESS_KEY_ID", form.replace("%s", KEY_ID))
        return main.read_secret("ALIYUN_ACCESS_KEY_ID", required)

    assert accepted(read, SECRETS, main.Refusal) == []
    assert [read(form) for form in ("%s", "%s\n", "%s\r\n", " %s ")] == [KEY_ID] * 4
    blank = ["empty", "blank"]
    assert accepted(read, {"empty": "", "blank": " "}, main.Refusal) == ([] if required else blank)


PROXIES = {
    "empty label in the host": "http://%s@proxy..corp:3128",
    "label too long": f"http://%s@{'proxy' * 20}.corp:3128",
    "no host": "http://%s@:3128",
    "port is a word": "http://%s@proxy.corp:port",
    "port is too large": "http://%s@proxy.corp:99999",
    "open bracket": "http://%s@[::1:3128",
    "slash in the password": "http://%s/half@proxy.corp:3128",
    "slash in a password of digits": "http://deployer:12/half@proxy.corp:3128",
    "slash in the password, without scheme": "%s/half@proxy.corp:3128",
    "question mark in the password": "http://%s?half@proxy.corp:3128",
    "question mark in a password of digits": "http://deployer:12?half@proxy.corp:3128",
    "hash in the password": "http://%s#half@proxy.corp:3128",
    "hash in a password of digits": "http://deployer:12#half@proxy.corp:3128",
    "bracket in the password": "http://%s[half@proxy.corp:3128",
    "other scheme": "socks5://%s@proxy.corp:3128",
    "one slash": "http:/%s@proxy.corp:3128",
}


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    for name in variables:
        monkeypatch.delenv(name, raising=False)

    def check(form: str, name: str = "HTTPS_PROXY") -> None:
        with monkeypatch.context() as context:
            context.setenv(name, form.replace("%s", SECRET_OF_PROXY))
            try:
                main.check_proxies()
            except main.Refusal as refusal:
                assert name in str(refusal)
                assert not [part for part in ("deployer", "s3cret", "half", "12/", "12?") if part in str(refusal)]
                raise

    assert accepted(check, PROXIES, main.Refusal) == []
    assert accepted(lambda name: check("http://proxy..corp:3128", name), {v: v for v in variables}, main.Refusal) == []
    check("http://%s@proxy.corp:3128")


# The record


ENTRY = {"region": "us-east-1", "image": image_id(PRIVATE_BUILD, "us-east-1"), "deleted": False}
RECORDS = {
    "empty file": "",
    "not JSON": '{"410.84.202001010000-0": [',
    "not UTF-8": "\udcff",
    "a list": "[]",
    "null": "null",
    "entries are an object": json.dumps({PRIVATE_BUILD: ENTRY}),
    "an entry is a list": json.dumps({PRIVATE_BUILD: [list(ENTRY.values())]}),
    "an image is a list of images": json.dumps({PRIVATE_BUILD: [ENTRY | {"image": "m-1,m-2"}]}),
    "a region is none": json.dumps({PRIVATE_BUILD: [ENTRY | {"region": "evil.example/"}]}),
    "deleted is a string": json.dumps({PRIVATE_BUILD: [ENTRY | {"deleted": "no"}]}),
    "nested too deeply": "[" * 100_000,
} | {
    f"{missing} is missing": json.dumps({PRIVATE_BUILD: [{k: v for k, v in ENTRY.items() if k != missing}]})
    for missing in ENTRY
}


def test_records(tmp_path: Path) -> None:
    path = tmp_path / "record.json"

    def load(text: str) -> main.Record:
        path.write_bytes(text.encode(errors="surrogateescape"))
        return main.load_record(str(path))

    assert accepted(load, RECORDS, main.Refusal) == []
    assert load(json.dumps({PRIVATE_BUILD: [ENTRY]})) == {PRIVATE_BUILD: [ENTRY]}


# GitHub


def replaced(version: object, key: str, value: object) -> object:
    """A copy of the document in which every value of this key is replaced."""
    if isinstance(version, dict):
        return {k: value if k == key else replaced(v, key, value) for k, v in version.items()}
    return version


VERSION = rhcos_json(BOOTIMAGE, REGIONS, DIRECTORY)
VERSIONS = {
    "a list": [],
    "null": None,
    "no architectures": {"stream": "rhcos"},
    "architectures are a list": {"architectures": []},
    "an architecture is a string": {"architectures": {"x86_64": "rhcos"}},
    "images are a list": replaced(VERSION, "images", []),
    "aliyun is null": replaced(VERSION, "aliyun", None),
    "regions are a list": replaced(VERSION, "regions", [["us-east-1"]]),
    "a region is a string": replaced(VERSION, "us-east-1", "m-1"),
    "an image is missing": replaced(VERSION, "us-east-1", {"release": BOOTIMAGE}),
    "an image is a list of images": replaced(VERSION, "image", "m-1,m-2"),
    "a release is a number": replaced(VERSION, "release", 410),
    "a release is missing": replaced(VERSION, "us-east-1", {"image": "m-1"}),
    "a region is none": replaced(VERSION, "regions", {"evil.example/?": {"release": "1", "image": "m-1"}}),
}


def test_versions_of_rhcos_json() -> None:
    def read(version: object) -> object:
        with (
            patch.object(main, "list_commits", return_value=["c1"]),
            patch.object(main, "fetch_versions", return_value={"c1": version}),
        ):
            return main.find_bootimages(Mock(), "4.10")

    assert accepted(read, VERSIONS, main.Refusal) == []
    assert accepted(read, {"undamaged": VERSION}, main.Refusal) == ["undamaged"]


def test_lists_of_commits() -> None:
    def read(page: object) -> list[str]:
        with patch.object(main, "fetch_pages", return_value=[page]):
            return main.list_commits(Mock(), "4.10")

    pages = [{"message": "hello"}, [["sha"]], [{"commit": {}}], [{"sha": 7}], [{"sha": "../x"}]]
    assert accepted(read, {str(page): page for page in pages}, main.Refusal) == []
    assert read([{"sha": "0" * 40}]) == ["0" * 40]


NOT_REMOVED: dict[str, object] = {
    "no file": [],
    "no list": None,
    "another file removed": [{"filename": "data/other.json", "status": "removed"}],
    "added": [{"filename": STREAM_METADATA, "status": "added"}],
    "renamed to this path": [{"filename": STREAM_METADATA, "previous_filename": "old.json", "status": "renamed"}],
    "copied": [{"filename": "new.json", "previous_filename": STREAM_METADATA, "status": "copied"}],
    "strings": [STREAM_METADATA],
}


def test_commits_that_did_not_remove_the_file() -> None:
    def check(files: object) -> None:
        with patch.object(main, "fetch_pages", return_value=[{"sha": "c1", "files": files}]):
            main.refuse_unless_removed(Mock(), "c1")

    assert accepted(check, NOT_REMOVED, main.Refusal) == []
    check([{"filename": STREAM_METADATA, "status": "removed"}])


# The store


LISTINGS: dict[str, object] = {
    "a list": [],
    "no builds": {"schema-version": "1.0.0"},
    "builds are an object": {"builds": {"id": "1"}},
    "a build is a string": {"builds": ["410.84.202001010000-0"]},
    "an ID is missing": {"builds": [{"arches": []}]},
    "an ID is a number": {"builds": [{"id": 410, "arches": []}]},
    "an ID is null": {"builds": [{"id": None, "arches": []}]},
    "arches are missing": {"builds": [{"id": "410.84.202001010000-0"}]},
    "arches are null": {"builds": [{"id": "410.84.202001010000-0", "arches": None}]},
    "arches are a string": {"builds": [{"id": "410.84.202001010000-0", "arches": "x86_64"}]},
    "tombstones are an object": {"builds": [], "tombstone-builds": {}},
    "a tombstone is a string": {"builds": [], "tombstone-builds": [PUBLIC_BUILD]},
    "a tombstone without arches": {"builds": [], "tombstone-builds": [{"id": PUBLIC_BUILD}]},
}


def test_builds_json() -> None:
    def read(listing: object) -> object:
        return main.fetch_listing(Mock(**{"get_json.return_value": listing}), DIRECTORY)

    assert accepted(read, LISTINGS, main.OutsideError) == []
    assert read({"builds": []}) == {}


METAS: dict[str, object] = {
    "empty list": [],
    "a list": [1],
    "empty object": {},
    "empty string": "",
    "null": None,
    "error document": {"error": {"code": 500, "message": "try again"}},
    "another build's": {"buildid": PRIVATE_BUILD},
    "no buildid": {"aliyun": [{"name": "us-east-1", "id": "m-1"}]},
    "buildid in a list": {"buildid": [PUBLIC_BUILD]},
} | {
    f"aliyun is {images}": {"buildid": PUBLIC_BUILD, "aliyun": images}
    for images in (
        None,
        {"us-east-1": "m-1"},
        ["m-1"],
        [{"name": "us-east-1"}],
        [{"name": "us-east-1", "id": None}],
        [{"name": "us-east-1", "id": "m-1,m-2"}],
        [{"name": "evil.example/?", "id": "m-1"}],
        [{"name": "us-east-1", "id": "m-1"}, {"name": "cn-hangzhou", "id": ""}],
    )
}


def test_meta_json() -> None:
    def read(meta: object) -> object:
        return main.fetch_uploads(Mock(**{"get_json.return_value": meta}), PUBLIC_BUILD, "https://store/meta.json")

    assert accepted(read, METAS, main.OutsideError) == []
    assert read({"buildid": PUBLIC_BUILD}) == []


# ECS


def test_answers_of_ecs() -> None:
    bodies = [b"[]", b"null", b"7", b"{}", b"<html>", b"\xff", b'{"TotalCount": 0, "Images": {"Image": []}}']
    assert accepted(main.parse_answer, {repr(body): body for body in bodies}, ValueError) == []
    assert main.parse_answer(b'{"RequestId": "1"}') == {"RequestId": "1"}


IMAGE = {"ImageId": "m-1", "ImageOwnerAlias": "self"}
IMAGES: dict[str, Any] = {
    "a string": "m-1",
    "null": None,
    "tags are a list": IMAGE | {"Tags": ["bootimage"]},
    "tags are a string": IMAGE | {"Tags": {"Tag": "bootimage"}},
    "tags are null": IMAGE | {"Tags": None},
    "a tag is a number": IMAGE | {"Tags": {"Tag": [7]}},
    "disks are null": IMAGE | {"DiskDeviceMappings": None},
    "disks are a number": IMAGE | {"DiskDeviceMappings": {"DiskDeviceMapping": 7}},
    "a disk is a string": IMAGE | {"DiskDeviceMappings": {"DiskDeviceMapping": ["s-1"]}},
}


def test_images_of_ecs() -> None:
    def read(image: object) -> object:
        answer = {"TotalCount": 1, "Images": {"Image": [image]}}
        return main.Ecs.describe(Mock(**{"call.return_value": (answer, None)}))

    assert accepted(read, IMAGES, main.EcsError) == []
    assert accepted(read, {"undamaged": IMAGE}, main.EcsError) == ["undamaged"]


PINS = {
    ("bootimage", "true"): True,
    ("bootimage", "True"): True,
    ("Bootimage", "true"): True,
    ("BOOTIMAGE", "TRUE"): True,
    ("bootimage", "false"): False,
    ("bootimage", ""): False,
    ("not-bootimage", "true"): False,
}


def test_tags_that_pin_an_image() -> None:
    images = {tag: IMAGE | {"Tags": {"Tag": [{"TagKey": tag[0], "TagValue": tag[1]}]}} for tag in PINS}
    assert {tag: main.parse_cloud_image(image).pinned for tag, image in images.items()} == PINS


CREDENTIALS = [
    "InvalidAccessKeyId.NotFound",
    "InvalidAccessKeyId.Inactive",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "Forbidden",
    "Forbidden.AccessKey",
    "Forbidden.AccessKeyDisabled",
    "Forbidden.RiskControl",
    "Forbidden.UserVerification",
    "NoEnabledAccessKey",
    "InvalidSecurityToken.Expired",
    "MissingSecurityToken",
    "InvalidTimeStamp.Expired",
]
PERMISSION = ["Forbidden.RAM", "Forbidden.NotSupportRAM", "NoPermission", "NoPermission.System"]
THROTTLING = ["Throttling", "Throttling.User", "Throttling.Api", "Rejected.Throttling", "Any.Throttling.Code"]
# Codes that say something of one image only
IMAGE_CODES = [
    "ImageUsingByInstance",
    "ImageUseShared",
    "OperationDenied.ImageCopying",
    "ImageIsImporting",
    "ImageIsExporting",
    "ImageIsPublic",
    "OperationDenied.ImageStatus",
]


@pytest.mark.parametrize(
    ("codes", "status", "failure"),
    [
        (CREDENTIALS, 403, main.DeniedError),
        (PERMISSION, 403, main.DeniedError),
        (THROTTLING, 400, main.ThrottledError),
        (THROTTLING, 429, main.ThrottledError),
        (THROTTLING, 503, main.ThrottledError),
        (IMAGE_CODES, 403, main.EcsError),
    ],
    ids=["credentials", "permission", "throttling, 400", "throttling, 429", "throttling, 503", "image"],
)
def test_codes_of_ecs(codes: list[str], status: int, failure: type[main.EcsError]) -> None:
    errors = [ServerException(code, "no", http_status=status) for code in codes]
    failures = {code: main.Ecs.parse_failure(Mock(), "DeleteImage", error) for code, error in zip(codes, errors)}
    assert {code: type(each) for code, each in failures.items()} == dict.fromkeys(codes, failure)


def test_codes_that_end_the_run_are_those_of_credentials() -> None:
    """A lacking permission concerns one operation, or one region."""
    assert [code for code in CREDENTIALS if not main.CREDENTIALS_REFUSED.fullmatch(code)] == []
    assert [code for code in PERMISSION if main.CREDENTIALS_REFUSED.fullmatch(code)] == []
