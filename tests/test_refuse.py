"""When the run ends before its first change: exit 1, one clear line, the cloud and the record as they were."""

from __future__ import annotations

import copy
import json
import shutil
import time

import pytest
from faults import Answer, Refused
from harness import BOOTIMAGE, PRIVATE_BUILD, REGIONS, Prune, Run
from world import (
    API_HOST,
    DIRECTORY,
    KEY_ID,
    OTHER_KEY_ID,
    OTHER_SECRET,
    World,
    builds_path,
    builds_url,
    commits_url,
    ecs_host,
    image_id,
    rhcos_json,
    version_url,
)

RECORD = '{"410.84.202001010000-0":   [ ]}'


def assert_refused(prune: Prune, *words: str, env: dict[str, str | None] | None = None) -> Run:
    """Run, and check that it was refused for the reason that these words tell."""
    path = prune.folder / "deleted_images.json"
    if not path.exists():
        path.write_text(RECORD)
    record, cloud, started = path.read_bytes(), copy.deepcopy(prune.world.images), time.monotonic()
    run = prune(env=env or {})
    assert run.status == 1
    assert (time.monotonic() - started) * prune.clock_speed < 180
    assert run.line("ERROR", *words)
    assert run.output.count("ERROR") == 1
    assert path.read_bytes() == record
    assert prune.world.images == cloud
    assert {call.what for call in run.calls("ecs")} <= {"DescribeImages"}
    assert sorted(path.name for path in prune.folder.iterdir()) == ["aliyun_pruner.log", "deleted_images.json"]
    return run


def replaced(version: object, key: str, value: object) -> object:
    """A copy of the document in which every value of this key is replaced."""
    if isinstance(version, dict):
        return {k: value if k == key else replaced(v, key, value) for k, v in version.items()}
    return version


def test_empty_history(world: World, prune: Prune) -> None:
    world.branches["release-4.10"].clear()
    assert_refused(prune, "names an Aliyun bootimage", "check the release")


def test_history_without_any_aliyun_bootimage(world: World, prune: Prune) -> None:
    del world.branches["release-4.10"][:-1]
    assert_refused(prune, "names an Aliyun bootimage", "check the release")


def test_every_version_was_removed(world: World, prune: Prune) -> None:
    world.branches["release-4.10"].clear()
    world.add_commit()
    assert_refused(prune, "names an Aliyun bootimage", "check the release")


BOOTIMAGE_VERSION = rhcos_json(BOOTIMAGE, REGIONS, DIRECTORY)
OTHER_SHAPES = {
    "a list": [],
    "null": b"null",
    "no architectures": {"stream": "rhcos"},
    "architectures are a list": {"architectures": []},
    "an architecture is a string": {"architectures": {"x86_64": "rhcos"}},
    "images are a list": replaced(BOOTIMAGE_VERSION, "images", []),
    "aliyun is null": replaced(BOOTIMAGE_VERSION, "aliyun", None),
    "regions are a list": replaced(BOOTIMAGE_VERSION, "regions", [["us-east-1"]]),
    "a region is a string": replaced(BOOTIMAGE_VERSION, "us-east-1", "m-1"),
    "an image is missing": replaced(BOOTIMAGE_VERSION, "us-east-1", {"release": BOOTIMAGE}),
    "an image is a list of images": replaced(BOOTIMAGE_VERSION, "image", "m-1,m-2"),
    "a release is a number": replaced(BOOTIMAGE_VERSION, "release", 410),
    "a release is missing": replaced(BOOTIMAGE_VERSION, "us-east-1", {"image": "m-1"}),
    "a region is none": replaced(BOOTIMAGE_VERSION, "regions", {"evil.example/?": {"release": "1", "image": "m-1"}}),
    "nested too deeply": b'{"architectures":' * 100_000,
}


@pytest.mark.parametrize("version", OTHER_SHAPES.values(), ids=OTHER_SHAPES)
def test_version_of_another_shape(world: World, prune: Prune, version: object) -> None:
    commit = world.add_commit(version)
    assert_refused(prune, commit, "nothing was changed")


def test_truncated_version(world: World, prune: Prune) -> None:
    commit = world.add_commit(json.dumps(BOOTIMAGE_VERSION).encode()[:-20])
    assert_refused(prune, commit, "not JSON", "try again later")


@pytest.mark.parametrize("status", [403, 500])
def test_version_that_cannot_be_fetched(world: World, prune: Prune, status: int) -> None:
    commit = world.branches["release-4.10"][0]
    prune.faults.answers[version_url(commit)] = Answer(status, b"no")
    prune.clock_speed = 20
    assert_refused(prune, commit, str(status), "try again later")


def test_no_such_branch(prune: Prune) -> None:
    prune.world.branches["release-4.11"] = prune.world.branches.pop("release-4.10")
    assert_refused(prune, "no branch release-4.10", "check the release")


def test_github_is_down(prune: Prune) -> None:
    prune.faults.dead_hosts.add(API_HOST)
    prune.clock_speed = 20
    assert_refused(prune, API_HOST)


def test_github_answers_only_errors(prune: Prune) -> None:
    prune.faults.answers[commits_url()] = Answer(502, b"<html>unicorn</html>")
    prune.clock_speed = 20
    assert_refused(prune, "502", "try again later")


@pytest.mark.parametrize("commits", [b"{", {"message": "hello"}, [["sha"]], [{"commit": {}}]], ids=str)
def test_list_of_commits_of_another_shape(prune: Prune, commits: object) -> None:
    prune.faults.answers[commits_url()] = Answer(200, commits)
    assert_refused(prune, "GitHub" if commits == b"{" else "not a list of commits", "try again later")


def test_next_page_over_plain_http(world: World, prune: Prune) -> None:
    commits = [{"sha": commit} for commit in world.branches["release-4.10"]]
    link = f'<{commits_url().replace("https", "http")}?page=2>; rel="next"'
    prune.faults.answers[commits_url()] = Answer(200, commits, {"Link": link})
    assert_refused(prune, f"http://{API_HOST}")


@pytest.mark.parametrize("status", [403, 429])
def test_budget_of_github_is_spent(prune: Prune, status: int) -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2000000000", "Retry-After": "3000"}
    prune.faults.answers[commits_url()] = Answer(status, {"message": "API rate limit exceeded"}, headers)
    run = assert_refused(prune, "GITHUB_TOKEN", "2033-05-18 03:33:20 UTC")
    assert len(run.calls("github")) == 1


def test_bad_github_token(prune: Prune) -> None:
    assert_refused(prune, "GITHUB_TOKEN", "valid", env={"GITHUB_TOKEN": "ghp_expired"})


@pytest.mark.parametrize("name", ["ALIYUN_ACCESS_KEY_ID", "ALIYUN_ACCESS_KEY_SECRET"])
@pytest.mark.parametrize("value", [None, "", " "], ids=["missing", "empty", "blank"])
def test_credentials_are_missing(prune: Prune, name: str, value: str | None) -> None:
    run = assert_refused(prune, name, "set it", env={name: value})
    assert run.sandbox.calls == []


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"ALIYUN_ACCESS_KEY_ID": "LTAI5tUnknown"}, "InvalidAccessKeyId.NotFound"),
        ({"ALIYUN_ACCESS_KEY_SECRET": "wrong-secret-of-nobody"}, "InvalidAccessKeySecret"),
    ],
    ids=["unknown key", "wrong secret"],
)
def test_credentials_are_refused(prune: Prune, env: dict[str, str | None], code: str) -> None:
    assert_refused(prune, code, "ALIYUN_ACCESS_KEY_ID", env=env)


CREDENTIAL_CODES = [
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


@pytest.mark.parametrize("code", CREDENTIAL_CODES)
def test_credentials_are_refused_with_any_code(prune: Prune, code: str) -> None:
    prune.faults.refusals["DescribeImages", ""] = Refused(403, code, f"{KEY_ID} is refused.")
    run = assert_refused(prune, "refused the credentials", "ALIYUN_ACCESS_KEY_ID", "clock")
    assert run.calls("store") == []


@pytest.mark.parametrize("code", ["Forbidden.RAM", "Forbidden.NotSupportRAM", "NoPermission", "NoPermission.System"])
def test_account_has_no_permission_to_look(prune: Prune, code: str) -> None:
    prune.faults.refusals["DescribeImages", ""] = Refused(403, code, f"User {KEY_ID} is not authorized.")
    assert_refused(prune, code, "ecs:DescribeImages")


def test_credentials_of_another_account(prune: Prune) -> None:
    env = {"ALIYUN_ACCESS_KEY_ID": OTHER_KEY_ID, "ALIYUN_ACCESS_KEY_SECRET": OTHER_SECRET}
    assert_refused(prune, "none of the bootimages is listed as the account's own", "ecs:DescribeImages", env=dict(env))


def test_no_image_is_visible(prune: Prune) -> None:
    prune.world.images.clear()
    assert_refused(prune, "none of the bootimages is listed as the account's own", "ecs:DescribeImages")


def test_no_region_answers(prune: Prune) -> None:
    prune.faults.dead_hosts.update(ecs_host(region) for region in REGIONS)
    prune.clock_speed = 20
    assert_refused(prune, "no region answered", "proxy")


ENTRY = {"region": "us-east-1", "image": image_id(PRIVATE_BUILD, "us-east-1"), "deleted": False}
BROKEN_RECORDS = {
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


@pytest.mark.parametrize("record", BROKEN_RECORDS.values(), ids=BROKEN_RECORDS)
def test_record_that_is_none(prune: Prune, record: str) -> None:
    (prune.folder / "deleted_images.json").write_bytes(record.encode(errors="surrogateescape"))
    run = assert_refused(prune, "deleted_images.json is not a record", "--filename")
    assert run.sandbox.calls == []


UNUSABLE_PATHS = {
    "a folder": (".", "a file"),
    "in a missing folder": ("missing/file", "its folder does not exist"),
    "in /proc": ("/proc/file", "folder does not exist"),
    "below a file": ("main.py/file", "Not a directory"),
}


@pytest.mark.parametrize(("path", "reason"), UNUSABLE_PATHS.values(), ids=UNUSABLE_PATHS)
@pytest.mark.parametrize("option", ["--filename", "--log-to-file"])
def test_file_that_cannot_be_written(prune: Prune, option: str, path: str, reason: str) -> None:
    (prune.folder / "main.py").touch()
    run = prune(option, path, "4.10")
    assert run.status == 1
    assert run.line("error" if option == "--log-to-file" else "ERROR", str((prune.folder / path).resolve()))
    assert run.sandbox.calls == []


@pytest.mark.parametrize("option", ["--filename", "--log-to-file"])
def test_empty_file_name_is_a_usage_error(prune: Prune, option: str) -> None:
    run = prune(option, "", "4.10")
    assert run.status == 2
    assert run.line(option, "must not be empty")


def test_record_and_log_are_the_same_file(prune: Prune) -> None:
    path = prune.write_record(RECORD)
    assert prune("--log-to-file", str(path), "4.10").status == 2
    assert path.read_text() == RECORD


def test_no_builds_json_in_any_directory(world: World, prune: Prune) -> None:
    world.listings.clear()
    assert_refused(prune, "has no builds.json", "check the release")


OTHER_LISTINGS: dict[str, object] = {
    "not JSON": b'{"builds": [',
    "a list": [],
    "no builds": {"schema-version": "1.0.0"},
    "builds are an object": {"builds": {"id": "1"}},
    "a build is a string": {"builds": ["410.84.202001010000-0"]},
    "an ID is missing": {"builds": [{"arches": []}]},
    "an ID is a number": {"builds": [{"id": 410, "arches": []}]},
    "arches are missing": {"builds": [{"id": "410.84.202001010000-0"}]},
    "arches are null": {"builds": [{"id": "410.84.202001010000-0", "arches": None}]},
    "arches are a string": {"builds": [{"id": "410.84.202001010000-0", "arches": "x86_64"}]},
}


@pytest.mark.parametrize("listing", OTHER_LISTINGS.values(), ids=OTHER_LISTINGS)
def test_builds_json_of_another_shape(prune: Prune, listing: object) -> None:
    prune.faults.answers[builds_url()] = Answer(200, listing)
    assert_refused(prune, builds_url())


def test_builds_json_that_cannot_be_fetched(prune: Prune) -> None:
    prune.faults.answers[builds_url()] = Answer(500, b"")
    prune.clock_speed = 20
    assert_refused(prune, builds_url(), "try again later")


def test_one_of_two_builds_json_is_unreadable(world: World, prune: Prune) -> None:
    world.add_bootimage("410.84.202208010000-0", REGIONS, "prod/streams/4.10/builds")
    world.listings["prod/streams/4.10/builds"] = [{"id": None}]
    assert_refused(prune, builds_path("prod/streams/4.10/builds"))


def test_record_that_can_no_longer_be_written_at_the_end(prune: Prune) -> None:
    folder = prune.folder / "host"
    folder.mkdir()
    prune.faults.latency["ecs"] = 0.1
    with prune.started("--filename", "host/record.json", "4.10") as started:
        started.wait_until(lambda sandbox: any(call.what == "DeleteImage" for call in sandbox.calls))
        shutil.rmtree(folder)
        run = started.finish()
    assert run.status == 1
    assert run.line("ERROR", "host/record.json", "could not be written")
