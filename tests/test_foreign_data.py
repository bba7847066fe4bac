"""What a service sends is read for what it is, or it is an error of a kind that is expected: nothing is guessed."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkecs.request.v20140526.DeleteImageRequest import DeleteImageRequest
from faults import REQUEST_ID, Answer, Fault
from harness import PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, make_release
from sandbox import Sandbox
from world import BUILDS_URL, COMMITS_URL, DIRECTORY, GITHUB_TOKEN, World

import main
from main import DeniedError, LostError, OutsideError, Refusal, ThrottledError


@pytest.fixture
def sandbox(world: World) -> Iterator[Sandbox]:
    """The sandbox for calls from this process."""
    with Sandbox(world) as sandbox, patch.dict(os.environ, sandbox.environment(), clear=True):
        yield sandbox


def new_web() -> main.Web:
    return main.Web(main.read_environment())


def new_ecs() -> main.Ecs:
    return main.Ecs(REGIONS[0], main.read_environment())


def version(regions: Any) -> dict[str, Any]:
    x86_64 = {"artifacts": {"metal": {"release": PUBLIC_BUILD}}, "images": {"aliyun": {"regions": regions}}}
    return {"architectures": {"x86_64": x86_64, "s390x": {}}}


def page(total: int, *ids: str, **fields: Any) -> dict[str, Any]:
    images = [{"ImageId": id, "Tags": {"Tag": []}, **fields} for id in ids]
    return {"RequestId": REQUEST_ID, "TotalCount": total, "Images": {"Image": images}}


COMMITS = [{"sha": main.OLDEST_COMMIT}]
NAMED = {"release": PUBLIC_BUILD, "image": "m-1"}
VERSION = version({"us-east-1": NAMED})
VERSIONS: list[Any] = [{"architectures": {"x86_64": {"artifacts": {"metal": {"release": ""}}}}}, {"architectures": {}}]
VERSIONS += [version({"../x": NAMED}), *(version({"us-east-1": NAMED | {key: 410}}) for key in NAMED)]
BUILD: dict[str, Any] = {"id": PUBLIC_BUILD, "arches": ["x86_64"]}
LISTING = {"builds": [BUILD], "tombstone-builds": [BUILD]}
LISTINGS: list[Any] = [LISTING | {key: None} for key in LISTING]
LISTINGS += [LISTING | {key: [BUILD | change]} for key in LISTING for change in ({"id": 410}, {"arches": "x86_64"})]
META = {"buildid": PUBLIC_BUILD, "aliyun": [{"name": "us-east-1", "id": "m-1"}]}
METAS = [META | {"buildid": PRIVATE_BUILD}, META | {"aliyun": None}, META | {"aliyun": [{"name": "x/?", "id": "m-1"}]}]
DISKS = {"DiskDeviceMapping": [{"SnapshotId": "s-1"}]}
IMAGES = page(1, "m-1", Tags={"Tag": [{"TagKey": "bootimage", "TagValue": "true"}]}, DiskDeviceMappings=DISKS)
CUT = [page(1), page(2, "m-1"), page(2, "m-1", "m-1"), page(1, "m-1", "m-2"), page(1, "m-1", Tags={})]
ENTRY = {"region": "us-east-1", "image": "m-1", "deleted": False}
RECORDS = [{"1": [ENTRY | change]} for change in ({"image": "m-1,m-2"}, {"region": "x/"}, {"deleted": "no"})]

SHAPES: dict[str, tuple[Callable[[Any], object], Any, list[Any], type[Exception]]] = {
    "commits": (lambda _: main.list_commits(new_web(), "4.10"), COMMITS, [[{"sha": "../x"}, *COMMITS]], Refusal),
    "rhcos.json": (lambda _: main.fetch_version(new_web(), "4.10", "1"), VERSION, VERSIONS, Refusal),
    "builds.json": (lambda _: main.fetch_listing(new_web(), DIRECTORY), LISTING, LISTINGS, Refusal),
    "meta.json": (lambda _: main.fetch_uploads(new_web(), PUBLIC_BUILD, BUILDS_URL), META, METAS, OutsideError),
    "images": (lambda _: new_ecs().list_images(), IMAGES, CUT, LostError),
    "record": (lambda d: main.load_record("x", json.dumps(d).encode()), {"1": [ENTRY]}, RECORDS, Refusal),
}


@pytest.mark.parametrize(("read", "good", "bad", "error"), SHAPES.values(), ids=SHAPES)
def test_other_shapes_are_refused(
    sandbox: Sandbox, read: Callable[[Any], object], good: Any, bad: list[Any], error: type[Exception]
) -> None:
    sandbox.faults.failing = [every_answer := Fault("", Answer(200, good))]
    read(good)
    for document in [*bad, "no", 7, [None], [[]], {"": {}}]:
        every_answer.answer = Answer(200, document)
        with pytest.raises(error):
            read(document)


def test_build_id_that_is_no_part_of_a_url_is_not_asked_for(sandbox: Sandbox) -> None:
    builds = {"../../x": {"https://x/../../x": False}}
    assert main.find_uploads(new_web(), builds, make_release().history, {}) == ({}, {})
    assert sandbox.tunnels == {}


VERSION_URL = "https://raw.githubusercontent.com/openshift/installer/1"
RESPONSES: list[tuple[str, Answer, type[Exception]]] = [
    (BUILDS_URL, Answer(503, b"", {"Retry-After": "7"}), LostError),
    *((BUILDS_URL, Answer(200, body), LostError) for body in (b"{", b"", b"\xff", b"[" * 100_000)),
    (BUILDS_URL, Answer(429), LostError),
    (BUILDS_URL, Answer(404), OutsideError),
    (COMMITS_URL, Answer(500, b"<html>"), LostError),
    (VERSION_URL, Answer(404, b"404: Not Found"), Refusal),
    (VERSION_URL, Answer(429, b"", {"Retry-After": "1800"}), Refusal),
]


def test_answer_of_the_web_is_lost_or_final_by_its_status(sandbox: Sandbox) -> None:
    for url, answer, kind in RESPONSES:
        sandbox.faults.failing = [Fault(url, answer)]
        with pytest.raises(kind, match=re.escape(url)) as raised:
            new_web().get_json(url)
        assert raised.type is kind


SPENT = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2000000000", "Retry-After": "3000"}
GITHUB_ERRORS: list[tuple[int, dict[str, str], bool, str]] = [
    (401, {}, True, "unset or replace GITHUB_TOKEN"),
    (403, {"X-RateLimit-Remaining": "4882"}, True, "unset or replace GITHUB_TOKEN"),
    (403, {}, False, "set GITHUB_TOKEN"),
    (403, SPENT, False, ".* 2033-05-18 .*, or set GITHUB_TOKEN"),
    (429, SPENT | {"X-RateLimit-Reset": "soon"}, True, ".* the next hour: run again then"),
    (403, {"X-RateLimit-Remaining": "31", "Retry-After": "77"}, True, ".* after 77 seconds"),
    (429, {}, False, ".* after 3600 seconds, or set GITHUB_TOKEN"),
    (418, {}, True, "GitHub may have changed: .*"),
]


def test_refusal_of_github_is_quoted_with_the_remedy(sandbox: Sandbox) -> None:
    for status, headers, token, remedy in GITHUB_ERRORS:
        sandbox.faults.failing = [Fault(COMMITS_URL, Answer(status, {"message": "it says no"}, headers))]
        os.environ["GITHUB_TOKEN"] = GITHUB_TOKEN if token else ""
        with pytest.raises(Refusal, match=rf"^{COMMITS_URL}: HTTP status {status} \(it says no\): {remedy}$"):
            new_web().get_json(COMMITS_URL)


CREDENTIALS = "InvalidAccessKeyId.NotFound InvalidAccessKeySecret SignatureDoesNotMatch Forbidden Forbidden.AccessKey"
CREDENTIALS += " Forbidden.RiskControl NoEnabledAccessKey InvalidSecurityToken.Expired InvalidTimeStamp.Expired"
CREDENTIALS += " IllegalTimestamp"
ECS_ERRORS = [
    (403, CREDENTIALS, DeniedError),
    (403, "Forbidden.RAM Forbidden.NotSupportRAM NoPermission NoPermission.System", DeniedError),
    (400, "Throttling Throttling.User Rejected.Throttling Any.Throttling.Code", ThrottledError),
    (503, "Throttling.Api", ThrottledError),
    *((status, "Any.Code", LostError) for status in (500, 408, 429)),
    (400, "SignatureNonceUsed OperationConflict SystemBusy ServiceUnavailable InternalError", LostError),
    (403, "OperationDenied.ImageCopying", LostError),
    (403, "ImageUsingByInstance ImageIsPublic OperationDenied Forbidden.Other SnapshotCreatedImage", OutsideError),
]


def test_error_code_of_ecs_tells_what_to_do_next(variables: pytest.MonkeyPatch) -> None:
    for status, codes, kind in ECS_ERRORS:
        for code in codes.split():
            refusal = ServerException(code, "it says no", http_status=status, request_id="4F9A-17")
            now, error = time.time(), new_ecs().explain("DeleteImage", refusal, 5.0)
            assert (type(error), error.code) == (kind, code)
            assert f"DeleteImage: {code} (HTTP status {status}, it says no, RequestId 4F9A-17)" in str(error)
            assert bool(main.CREDENTIALS_REFUSED.fullmatch(code)) == (codes == CREDENTIALS)
            if kind is ThrottledError:  # until a second after the end of the minute in which it was sent
                assert 1 <= error.seconds <= 61
                assert (now - 5 + error.seconds) % 60 == pytest.approx(1, abs=0.5)


NO_ANSWERS = [
    Answer(200, b"null"),
    Answer(200, {"Message": "hello"}),
    Answer(200, b"<html>Welcome to this network</html>"),
    Answer(400, []),
    Answer(400, {"RequestId": "1", "Code": ["OperationDenied"], "Message": {}}),
    Answer(400, b"\xff"),
]


def test_unexpected_answer_is_an_error_that_is_expected(sandbox: Sandbox) -> None:
    for answer in NO_ANSWERS:
        sandbox.faults.failing = [Fault("DeleteImage", answer)]
        with pytest.raises(OutsideError, match="DeleteImage: "):
            new_ecs().call(DeleteImageRequest, ImageId="m-1")
