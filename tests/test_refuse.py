"""A run that cannot know what to keep changes nothing: it says why in one line, and exits with status 1."""

from __future__ import annotations

from typing import Any

import pytest
from faults import FORBIDDEN, HANGS, NO_IMAGES, Answer, Fault, Faults
from harness import PUBLIC_BUILD, REGIONS, Prune, assert_refused
from world import API_HOST, BUILDS_URL, COMMITS_URL, KEY_ID, OTHER_KEY_ID, OTHER_SECRET, SECRET, STORE_HOST, ecs_host

import main

KEYS = main.SECRETS[:2]
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "ALIBABA_CLOUD_CA_BUNDLE")
PLAIN_HTTP = Answer(302, b"", {"Location": f"http://{STORE_HOST}/"})


@pytest.fixture(autouse=True)
def record(prune: Prune) -> None:
    """A record that is not formatted as a run would write it."""
    prune.write_record('{"410.84.202001010000-0":   [ ]}')


NO_IMAGE: dict[str, Any] = {"architectures": {"x86_64": {"artifacts": {"metal": {"release": PUBLIC_BUILD}}}}}


def answering(what: str, *answer: Any) -> Faults:
    return Faults([Fault(what, Answer(*answer))])


FAULTS: dict[str, tuple[Faults, list[str]]] = {
    "GitHub is down": (Faults(dead_hosts={API_HOST}), [API_HOST, "502", "try again later"]),
    "no such branch": (answering(COMMITS_URL, 404), ["no branch release-4.10", "check the release"]),
    "commits cut short": (Faults(commits_listed=1), ["do not end with the oldest one", "run again later"]),
    "version not found": (answering("rhcos.json", 404), ["rhcos.json", "404"]),
    "version damaged": (answering("rhcos.json", 200, b"{"), ["rhcos.json", "not JSON", "try again later"]),
    "version of another shape": (answering("rhcos.json", 200, []), ["rhcos.json", "what to keep is unknown"]),
    "no bootimage": (answering("rhcos.json", 200, NO_IMAGE), ["an Aliyun bootimage", "check the release"]),
    "no region answers": (Faults(dead_hosts=set(map(ecs_host, REGIONS))), ["no region answered", "proxy"]),
    "no permission": (answering("DescribeImages", *FORBIDDEN), ["Forbidden.RAM", "ecs:DescribeImages"]),
    "nothing listed": (answering("DescribeImages", *NO_IMAGES), ["none of the", "ecs:DescribeImages"]),
    "no builds.json": (answering("/builds.json", 403), ["no builds.json", "check the release"]),
    "builds.json not answered": (answering(BUILDS_URL, 500), [BUILDS_URL, "500", "try again later"]),
    "builds.json elsewhere": (answering(BUILDS_URL, *PLAIN_HTTP), [BUILDS_URL, "InvalidSchema"]),
    "builds.json of another shape, and the others hang": (
        Faults([Fault(BUILDS_URL, Answer(200, [])), Fault("/builds.json", HANGS)]),
        [BUILDS_URL, "not a list of builds"],
    ),
}


@pytest.mark.parametrize(("faults", "words"), FAULTS.values(), ids=FAULTS)
def test_run_is_refused_if_what_has_to_be_known_is_not_known(prune: Prune, faults: Faults, words: list[str]) -> None:
    prune.faults, prune.clock_speed = faults, 40
    assert_refused(prune, *words)


PROXY = "http://user:pa55wordOfProxy@127.0.0.1:9"
ENVIRONMENTS: dict[str, tuple[dict[str, str | None], list[str], int]] = {  # and the number of calls
    "no key": (dict(zip(KEYS, (None, " "))), [*KEYS, "set"], 0),
    "dead proxy": (dict.fromkeys(("HTTPS_PROXY", "https_proxy"), PROXY), [API_HOST, "check HTTPS_PROXY"], 0),
    "no CA": (dict.fromkeys(CA_VARIABLES, ""), ["CERTIFICATE_VERIFY_FAILED", "package certifi"], 0),
    "expired token": ({"GITHUB_TOKEN": "ghp_expired"}, ["Bad credentials", "GITHUB_TOKEN"], 1),
    "unknown key": ({"ALIYUN_ACCESS_KEY_ID": "LTAI5t78"}, ["InvalidAccessKeyId.NotFound", KEYS[0], "clock"], 6),
    "wrong secret": ({"ALIYUN_ACCESS_KEY_SECRET": "nobodys-secret"}, ["InvalidAccessKeySecret", KEYS[1], "clock"], 6),
    "another account": (dict(zip(KEYS, (OTHER_KEY_ID, OTHER_SECRET))), ["none of the bootimages", KEYS[0]], 6),
}


@pytest.mark.parametrize(("env", "words", "calls"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_useless_environment_is_found_early(
    prune: Prune, env: dict[str, str | None], words: list[str], calls: int
) -> None:
    prune.clock_speed = 40
    run = assert_refused(prune, *words, env=env)
    assert len(run.sandbox.calls) <= calls
    assert "pa55word" not in run.output + run.log


@pytest.mark.parametrize("kind", [main.LostError, main.ThrottledError])
def test_regions_that_are_silent_or_throttled_are_no_other_account(
    variables: pytest.MonkeyPatch, kind: type[main.OutsideError]
) -> None:
    def fail(_: main.Region) -> None:
        raise kind("in its words")

    variables.setattr(main.Region, "find_witness", fail)
    environment, args = main.read_environment(), main.parse_args(["4.10"])
    with pytest.raises(main.Refusal, match=r"no region answered.*us-east-1: in its words"):
        main.check_account([main.Region(environment, args, name, []) for name in REGIONS])


@pytest.mark.parametrize("bad", ["untrusted_hosts", "misnamed_hosts"])
@pytest.mark.parametrize("host", [STORE_HOST, ecs_host(REGIONS[0])])
def test_certificate_that_cannot_be_verified_is_asked_for_once(prune: Prune, bad: str, host: str) -> None:
    setattr(prune.faults, bad, {host})
    run = assert_refused(prune, host, "CERTIFICATE_VERIFY_FAILED", "ca.pem: set REQUESTS_CA_BUNDLE")
    assert run.sandbox.tunnels[host] <= 5  # as many as there are listings
    assert not [call for call in run.sandbox.calls if host in (call.where, ecs_host(call.where))]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable that main.py reads is set but the key."""
    for name in (*CA_VARIABLES, "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in zip(main.SECRETS, (KEY_ID, SECRET, "")):
        monkeypatch.setenv(name, value)
    return monkeypatch


CAS: dict[tuple[str, str, str], tuple[str | bool, str | bool]] = {
    ("", "", ""): (True, True),
    ("", "curl", ""): ("curl", "curl"),
    ("requests", "curl", ""): ("requests", "requests"),
    ("requests", "", "alibaba"): ("requests", "alibaba"),
}


def test_certificates_are_verified_whatever_the_variables_say(variables: pytest.MonkeyPatch) -> None:
    for values, expected in CAS.items():
        for name, value in zip(CA_VARIABLES, values):
            variables.setenv(name, value)
        environment = main.read_environment()
        sessions = (main.Web(environment).session, main.Ecs(REGIONS[0], environment).client.session)
        assert tuple(session.verify for session in sessions) == expected


MALFORMED = {
    "'s3cretValue'": "quotation marks around its value: remove them",
    "\N{LEFT DOUBLE QUOTATION MARK}s3cretValue": "malformed",
    "s3cret\nValue": "malformed",
    "s3cretValue\udcff": "malformed",
    "s3cretV": "too short",
}


def test_malformed_secret_is_named_but_not_its_value(variables: pytest.MonkeyPatch) -> None:
    for name in main.SECRETS:
        for value, words in MALFORMED.items():
            variables.setenv(name, value)
            with pytest.raises(main.Refusal, match=f"{name} .*{words}") as refusal:
                main.read_environment()
            assert "s3cret" not in str(refusal.value)
        variables.setenv(name, " LTAI5t78\r\n")
        assert "LTAI5t78" in main.read_environment()


PROXIES = {
    "ftp://u:s3cret@127.0.0.1:9": "check HTTPS_PROXY",
    "http://u:s3cret@exa..mple:1": "check HTTPS_PROXY",
    "http://u[er:s3cret@127.0.0.1:9": "check HTTPS_PROXY",
    "http://u:s3cret@127.0.0.1:9\r": "HTTPS_PROXY contains a blank",
}


def test_proxy_that_is_of_no_use_is_named_without_its_password(variables: pytest.MonkeyPatch) -> None:
    for proxy, words in PROXIES.items():
        variables.setenv("HTTPS_PROXY", proxy)
        with pytest.raises((main.Refusal, main.OutsideError), match=words) as error:
            main.Web(main.read_environment()).get_json("https://nowhere.invalid/")
        assert "s3cret" not in str(error.value)
    variables.setenv("https_proxy", "http://deployer:pass%40word@proxy:3128")
    said = main.redact("deployer pass@word pass%40word proxy")
    assert said == "<https_proxy> <https_proxy>@<https_proxy> <https_proxy> proxy"


def test_file_that_is_no_record_is_refused_before_any_call(prune: Prune) -> None:
    path = prune.write_record("{")
    assert assert_refused(prune, "deleted_images.json is not a record", "--filename").sandbox.tunnels == {}
    for content in (b"", b"\xff", b"null", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(main.Refusal, match=r"deleted_images.json is not a record.*--filename"):
            main.load_record(str(path))


@pytest.mark.parametrize("option", ["--filename=.", "--filename=missing/file", "--log-to-file=missing/file"])
def test_file_that_cannot_be_written_is_refused_before_any_call(prune: Prune, option: str) -> None:
    run = prune(option, "4.10")
    assert run.status == 1
    name, path = option.split("=")
    assert run.line(str(prune.folder / path), "directory", f"give another {name}")
    assert run.sandbox.tunnels == {}


def test_empty_file_name_and_one_file_for_both_are_usage_errors() -> None:
    for options in (["--filename="], ["--log-to-file="], ["--filename=x", "--log-to-file=./x"], ["--delete"]):
        with pytest.raises(SystemExit, match=r"^2$"):
            main.parse_args([*options, "4.10"])
