"""What a service sends is read for what it is, or it is an error of a kind that is expected: nothing is guessed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkecs.request.v20140526.DeleteImageRequest import DeleteImageRequest
from faults import Answer, Fault, Faults
from harness import PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, make_release
from sandbox import Sandbox
from world import BUILDS_URL, COMMITS_URL, DIRECTORY, World

import main
from main import DeniedError, LostError, OutsideError, Refusal, ThrottledError


def web(document: Any) -> Any:
    """A Web that has this document under every URL."""
    return SimpleNamespace(get_json=lambda *_: document, token="")


def ecs(answer: Any) -> main.Ecs:
    """An Ecs whose every call has this answer."""
    region = main.Ecs(REGIONS[0], main.Environment("LTAI5tSandbox", "secret-of-the-sandbox", "", "", True, True))
    region.call = lambda *_, **__: answer  # type: ignore[method-assign]
    return region


class AnsweringWeb(main.Web):
    """A Web that gets this response for every URL."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status, self.body, self.headers, self.token = status, body, headers, ""

    def get(self, url: str) -> requests.Response:
        return response_of(url, self.status, self.body, self.headers)


def version(regions: Any) -> dict[str, Any]:
    x86_64 = {"artifacts": {"metal": {"release": PUBLIC_BUILD}}, "images": {"aliyun": {"regions": regions}}}
    return {"architectures": {"x86_64": x86_64, "s390x": {}}}


def page(total: int, *ids: str, **fields: Any) -> dict[str, Any]:
    return {"TotalCount": total, "Images": {"Image": [{"ImageId": id, "Tags": {"Tag": []}, **fields} for id in ids]}}


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

SHAPES: dict[str, tuple[Callable[[Any], object], Any, list[Any], Any]] = {
    "commits": (lambda d: main.list_commits(web(d), "4.10"), COMMITS, [[{"sha": "../x"}, *COMMITS]], Refusal),
    "rhcos.json": (lambda d: main.fetch_version(web(d), "4.10", "1"), VERSION, VERSIONS, Refusal),
    "builds.json": (lambda d: main.fetch_listing(web(d), DIRECTORY), LISTING, LISTINGS, Refusal),
    "meta.json": (lambda d: main.fetch_uploads(web(d), PUBLIC_BUILD, ""), META, METAS, OutsideError),
    "images": (lambda d: ecs(d).list_images(), IMAGES, CUT, LostError),
    "record": (lambda d: main.load_record("x", json.dumps(d).encode()), {"1": [ENTRY]}, RECORDS, Refusal),
}


@pytest.mark.parametrize(("read", "good", "bad", "error"), SHAPES.values(), ids=SHAPES)
def test_other_shapes_are_refused(read: Callable[[Any], object], good: Any, bad: list[Any], error: Any) -> None:
    read(good)
    for document in [*bad, "no", 7, [None], [[]], {"": {}}]:
        with pytest.raises(error):
            read(document)


def test_build_id_that_is_no_part_of_a_url_is_not_asked_for() -> None:
    nothing_is_asked_for: Any = SimpleNamespace(session=requests.Session(), get_json=pytest.fail)
    builds = {"../../x": {"https://x/../../x": False}}
    assert main.find_uploads(nothing_is_asked_for, builds, make_release().history, {}) == ({}, {})


# Refusals


def response_of(url: str, status: int, body: bytes, headers: dict[str, str]) -> requests.Response:
    response = requests.Response()
    response.url, response.status_code, response._content = url, status, body
    response.headers.update(headers)
    return response


VERSION_URL = "https://raw.githubusercontent.com/openshift/installer/1"
RESPONSES: list[tuple[str, int, bytes, dict[str, str], type[Exception]]] = [
    (BUILDS_URL, 503, b"", {"Retry-After": "7"}, LostError),
    *((BUILDS_URL, 200, body, {}, LostError) for body in (b"{", b"", b"\xff", b"[" * 100_000)),
    (BUILDS_URL, 429, b"", {}, LostError),
    (BUILDS_URL, 404, b"", {}, OutsideError),
    (COMMITS_URL, 500, b"<html>", {}, LostError),
    (VERSION_URL, 404, b"404: Not Found", {}, Refusal),
    (VERSION_URL, 429, b"", {"Retry-After": "1800"}, Refusal),
]


def test_answer_of_the_web_is_lost_or_final_by_its_status() -> None:
    for url, status, body, headers, kind in RESPONSES:
        with pytest.raises(kind, match=re.escape(url)) as raised:
            AnsweringWeb(status, body, headers).get_json(url)
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


def test_refusal_of_github_is_quoted_with_the_remedy() -> None:
    for status, headers, token, remedy in GITHUB_ERRORS:
        response = response_of(COMMITS_URL, status, b'{"message": "it says no"}', headers)
        words = main.explain_github_error(response, "", token)
        assert re.fullmatch(rf"{COMMITS_URL}: HTTP status {status} \(it says no\): {remedy}", words)


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
    (403, "ImageUsingByInstance ImageIsPublic OperationDenied Forbidden.Other", OutsideError),
]


def test_error_code_of_ecs_tells_what_to_do_next() -> None:
    for status, codes, kind in ECS_ERRORS:
        for code in codes.split():
            refusal = ServerException(code, "it says no", http_status=status, request_id="4F9A-17")
            now, error = time.time(), ecs(None).explain("DeleteImage", refusal, 5.0)
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


def test_unexpected_answer_is_an_error_that_is_expected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults()
    with Sandbox(world, faults) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        region = main.Ecs(REGIONS[0], main.read_environment())
        for answer in NO_ANSWERS:
            faults.failing = [Fault("DeleteImage", answer)]
            with pytest.raises(OutsideError, match="DeleteImage: "):
                region.call(DeleteImageRequest, ImageId=world.images_of(PRIVATE_BUILD)[0].id)
