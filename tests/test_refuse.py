"""When the run ends before its first change: exit 1, one clear line, the cloud and the record as they were."""

from __future__ import annotations

import json
import shutil

import pytest
from faults import Answer, Refused
from harness import BOOTIMAGE, PRIVATE_BUILD, REGIONS, Prune, assert_refused
from world import (
    API_HOST,
    DIRECTORY,
    KEY_ID,
    OTHER_KEY_ID,
    OTHER_SECRET,
    STORE_HOST,
    STREAM_METADATA,
    World,
    builds_path,
    builds_url,
    commits_url,
    ecs_host,
    rhcos_json,
    version_url,
)

RECORD = '{"410.84.202001010000-0":   [ ]}'


@pytest.fixture(autouse=True)
def record(prune: Prune) -> None:
    """A record that is not formatted as a run would write it."""
    prune.write_record(RECORD)


def test_history_without_any_aliyun_bootimage(world: World, prune: Prune) -> None:
    del world.branches["release-4.10"][:-1]
    assert_refused(prune, "names an Aliyun bootimage", "check the release")


BOOTIMAGE_VERSION = rhcos_json(BOOTIMAGE, REGIONS, DIRECTORY)
OTHER_SHAPES = {"a list": [], "nested too deeply": b'{"architectures":' * 100_000}


@pytest.mark.parametrize("version", OTHER_SHAPES.values(), ids=OTHER_SHAPES)
def test_version_of_another_shape(world: World, prune: Prune, version: object) -> None:
    commit = world.add_commit(version)
    assert_refused(prune, commit, "nothing was changed")


def test_truncated_version(world: World, prune: Prune) -> None:
    commit = world.add_commit(json.dumps(BOOTIMAGE_VERSION).encode()[:-20])
    assert_refused(prune, commit, "not JSON", "try again later")


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


@pytest.mark.parametrize("commits", [b"{", [{"commit": {}}]], ids=str)
def test_list_of_commits_of_another_shape(prune: Prune, commits: object) -> None:
    prune.faults.answers[commits_url()] = Answer(200, commits)
    prune.clock_speed = 20
    assert_refused(prune, "GitHub", "commits", "try again later")


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


@pytest.mark.parametrize("code", ["InvalidAccessKeyId.NotFound", "InvalidTimeStamp.Expired"])
def test_credentials_are_refused_with_any_code(prune: Prune, code: str) -> None:
    prune.faults.refusals["DescribeImages", ""] = Refused(403, code, f"{KEY_ID} is refused.")
    run = assert_refused(prune, "refused the credentials", "ALIYUN_ACCESS_KEY_ID", "clock")
    assert run.calls("store") == []


@pytest.mark.parametrize("code", ["Forbidden.RAM", "NoPermission.System"])
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


BROKEN_RECORDS = {
    "empty file": b"",
    "not UTF-8": b"\xff",
    "an entry lacks almost all": json.dumps({PRIVATE_BUILD: [{"region": "us-east-1"}]}).encode(),
}


@pytest.mark.parametrize("content", BROKEN_RECORDS.values(), ids=BROKEN_RECORDS)
def test_record_that_is_none(prune: Prune, content: bytes) -> None:
    (prune.folder / "deleted_images.json").write_bytes(content)
    run = assert_refused(prune, "deleted_images.json is not a record", "--filename")
    assert run.sandbox.calls == []


UNUSABLE_PATHS = {
    "record is a folder": ("--filename", ".", "directory"),
    "record in a missing folder": ("--filename", "missing/file", "No such file"),
    "log in a missing folder": ("--log-to-file", "missing/file", "No such file"),
    "log below a file": ("--log-to-file", "main.py/file", "Not a directory"),
}


@pytest.mark.parametrize(("option", "path", "reason"), UNUSABLE_PATHS.values(), ids=UNUSABLE_PATHS)
def test_file_that_cannot_be_written(prune: Prune, option: str, path: str, reason: str) -> None:
    (prune.folder / "main.py").touch()
    run = prune(option, path, "4.10")
    assert run.status == 1
    assert run.line("error" if option == "--log-to-file" else "ERROR", str((prune.folder / path).resolve()), reason)
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


def test_missing_credentials_are_named_together(prune: Prune) -> None:
    env = {"ALIYUN_ACCESS_KEY_ID": None, "ALIYUN_ACCESS_KEY_SECRET": " "}
    run = assert_refused(prune, "ALIYUN_ACCESS_KEY_ID", "ALIYUN_ACCESS_KEY_SECRET", "set", env=env)
    assert run.sandbox.tunnels == {}


@pytest.mark.parametrize("token", ["ghp_expired", None])
def test_github_that_refuses_names_the_token(prune: Prune, token: str | None) -> None:
    if token is None:
        prune.faults.github_budget = 0
    assert_refused(prune, "GITHUB_TOKEN", "2033" if token is None else "Bad credentials", env={"GITHUB_TOKEN": token})


@pytest.mark.parametrize("answer", [Answer(404), Answer(403), Answer(500), Answer(200, b"{")], ids=str)
@pytest.mark.parametrize("token", [True, False], ids=["contents API", "raw"])
def test_version_that_cannot_be_fetched(world: World, prune: Prune, answer: Answer, token: bool) -> None:
    commit = world.branches["release-4.10"][0]
    prune.faults.answers[f"contents/{STREAM_METADATA}" if token else version_url(commit)] = answer
    prune.clock_speed = 20
    assert_refused(prune, "rhcos.json", env={} if token else {"GITHUB_TOKEN": None})


@pytest.mark.parametrize("host", [API_HOST, STORE_HOST, ecs_host(REGIONS[0])])
@pytest.mark.parametrize("bad", ["untrusted_hosts", "misnamed_hosts"])
def test_certificate_that_cannot_be_verified_is_asked_for_once(prune: Prune, host: str, bad: str) -> None:
    prune.options[bad] = {host}
    run = assert_refused(prune, host, "CERTIFICATE_VERIFY_FAILED", "REQUESTS_CA_BUNDLE")
    assert run.sandbox.tunnels[host] <= 5
    assert not [call for call in run.sandbox.calls if host in (call.where, ecs_host(call.where))]


def test_proxy_that_is_dead_is_named_without_its_password(prune: Prune) -> None:
    prune.clock_speed = 20
    proxy = "http://user:pa55wordOfProxy@127.0.0.1:9"
    run = assert_refused(prune, "HTTPS_PROXY", env={"HTTPS_PROXY": proxy, "https_proxy": proxy})
    assert "pa55wordOfProxy" not in run.output + run.log
