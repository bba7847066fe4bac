"""A run that cannot know what to keep changes nothing: it says why in one line, and exits with status 1."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import trustme
from faults import FORBIDDEN, HANGS, NO_IMAGES, Answer, Fault, Faults
from harness import CA_VARIABLES, PUBLIC_BUILD, REGIONS, Prune, in_shell
from requests.utils import get_environ_proxies
from world import API_HOST, BUILDS_URL, COMMITS_URL, OTHER_KEY_ID, OTHER_SECRET, STORE_HOST, ecs_host

import main

KEYS = main.SECRETS[:2]
ENDPOINTS = {*map(ecs_host, REGIONS)}
PLAIN_HTTP = Answer(302, b"", {"Location": f"http://{STORE_HOST}/"})


@pytest.fixture(autouse=True)
def record(prune: Prune) -> None:
    """A record that is not formatted as a run would write it."""
    prune.write_record('{"410.84.202001010000-0":   [ ]}')


def naming(build: str) -> dict[str, Any]:
    """A version of rhcos.json without images."""
    return {"architectures": {"x86_64": {"artifacts": {"metal": {"release": build}}}}}


def answering(what: str, *answer: Any) -> Faults:
    return Faults([Fault(what, Answer(*answer))])


FAULTS: dict[str, tuple[Faults, list[str]]] = {
    "GitHub is down": (Faults(dead_hosts={API_HOST}), [API_HOST, "502", "try again later"]),
    "GitHub's answer is not known": (answering(COMMITS_URL, 400, {"message": "gone"}), ["(gone)", "newer version"]),
    "another server in place of GitHub": (answering(COMMITS_URL, 403, b"<html>"), ["another server", "HTTPS_PROXY"]),
    "GitHub leads to HTTP": (answering(COMMITS_URL, *PLAIN_HTTP), [COMMITS_URL, "No connection adapters were found"]),
    "no such branch": (answering(COMMITS_URL, 404), ["no branch release-4.10", "check the release"]),
    "commits cut short": (Faults(commits_listed=1), ["do not end with the oldest one", "run again later"]),
    "version damaged": (answering("rhcos.json", 200, b"{"), ["rhcos.json", "JSONDecodeError", "try again later"]),
    "version of another shape": (answering("rhcos.json", 200, []), ["rhcos.json", "is not what this program knows"]),
    "no rhcos.json any more": (answering("rhcos.json", 404), ["not found", "no such file any more", "no Aliyun"]),
    "builds of another form": (answering("rhcos.json", 200, naming("9.6.2025-0")), ["no Aliyun images", "9.6.2025-0"]),
    "no bootimage": (answering("rhcos.json", 200, naming(PUBLIC_BUILD)), ["an Aliyun bootimage", "check the release"]),
    "no region answers": (Faults(dead_hosts=ENDPOINTS), ["no region can be used (", "check network and proxy"]),
    "no permission": (answering("DescribeImages", *FORBIDDEN), ["Forbidden.RAM", "ecs:DescribeImages"]),
    "nothing listed": (answering("DescribeImages", *NO_IMAGES), ["none of the", "ecs:DescribeImages"]),
    "no builds.json": (answering("/builds.json", 403), ["no builds.json", "check the release", "HTTPS_PROXY"]),
    "builds.json not answered": (answering(BUILDS_URL, 500), [BUILDS_URL, "500", "try again later"]),
    "builds.json elsewhere": (answering(BUILDS_URL, *PLAIN_HTTP), [BUILDS_URL, "No connection adapters were found"]),
    "builds.json of another shape, and the others hang": (
        Faults([Fault(BUILDS_URL, Answer(200, [])), Fault("/builds.json", HANGS)]),
        [BUILDS_URL, "is not what this program knows"],
    ),
}


@pytest.mark.parametrize(("faults", "words"), FAULTS.values(), ids=FAULTS)
def test_run_is_refused_if_what_has_to_be_known_is_not_known(prune: Prune, faults: Faults, words: list[str]) -> None:
    prune.faults, prune.clock_speed = faults, 20
    prune.assert_refused(*words)


PROXY = "http://user:pa55wordOfProxy@127.0.0.1:9"
ENVIRONMENTS: dict[str, tuple[dict[str, str | None], list[str], int]] = {  # and the number of calls
    "no key": (dict(zip(KEYS, (None, " "))), [*KEYS, "set"], 0),
    "dead proxy": (dict.fromkeys(("HTTPS_PROXY", "https_proxy"), PROXY), [API_HOST, "check network and proxy"], 0),
    "no CA": (dict.fromkeys(CA_VARIABLES, ""), ["CERTIFICATE_VERIFY_FAILED", "package certifi"], 0),
    "no CA file": (dict.fromkeys(CA_VARIABLES, "/x/ca.pem"), ["check /x/ca.pem (REQUESTS_CA_BUNDLE"], 0),
    "empty CA file": (dict.fromkeys(CA_VARIABLES, "/dev/null"), ["check /dev/null (REQUESTS_CA_BUNDLE"], 0),
    "expired token": ({"GITHUB_TOKEN": "ghp_expired"}, ["Bad credentials", "GITHUB_TOKEN"], 1),
    "unknown key": ({"ALIYUN_ACCESS_KEY_ID": "LTAI5t78"}, ["InvalidAccessKeyId.NotFound", KEYS[0], "clock"], 6),
    "wrong secret": ({"ALIYUN_ACCESS_KEY_SECRET": "nobodys-secret"}, ["InvalidAccessKeySecret", KEYS[1], "clock"], 6),
    "another account": (dict(zip(KEYS, (OTHER_KEY_ID, OTHER_SECRET))), ["none of the 2 bootimages", KEYS[0]], 6),
}


@pytest.mark.parametrize(("env", "words", "calls"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_useless_environment(prune: Prune, env: dict[str, str | None], words: list[str], calls: int) -> None:
    prune.clock_speed = 20
    run = prune.assert_refused(*words, env=env)
    assert len(run.sandbox.calls) <= calls
    assert "pa55word" not in run.output + run.log


def test_account_that_is_throttled_for_good_is_not_taken_for_another_one(prune: Prune) -> None:
    prune.faults.calls_a_minute, prune.clock_speed = 0, 300
    assert prune().line("ERROR", "no region can be used (", "Throttling.User", "try again later) (nothing was changed)")


@pytest.mark.parametrize("bad", ["untrusted_hosts", "misnamed_hosts"])
@pytest.mark.parametrize("hosts", [{STORE_HOST}, ENDPOINTS], ids=["store", "every region"])
def test_certificate_that_cannot_be_verified_is_asked_for_once(prune: Prune, bad: str, hosts: set[str]) -> None:
    setattr(prune.faults, bad, hosts)
    run = prune.assert_refused("CERTIFICATE_VERIFY_FAILED", "ca.pem (REQUESTS_CA_BUNDLE")
    assert "ALIYUN_ACCESS_KEY_ID" not in run.output
    most = len(main.USUAL_DIRECTORIES)  # Each builds.json may be asked for.
    assert sum(run.sandbox.tunnels[host] for host in hosts) <= most
    assert not [call for call in run.sandbox.calls if {call.where, ecs_host(call.where)} & hosts]


TLS = r"check ca\.pem \(REQUESTS_CA_BUNDLE, .*clock"
FAILURES = {
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired": TLS,
    "Could not find a suitable TLS CA certificate bundle, invalid path: ca.pem": TLS,
    "SSLError(136, '[X509: NO_CERTIFICATE_OR_CRL_FOUND]')": TLS,
    "Tunnel connection failed: 407 Proxy Authentication Required": "the proxy refuses that: check HTTPS_PROXY",
    "Tunnel connection failed: 403 Forbidden": "the proxy refuses that: check HTTPS_PROXY",
}
PASSING = (
    "Tunnel connection failed: 502 Bad Gateway",
    "ProxyError('Unable to connect to proxy', NewConnectionError('<x>: refused'))",
    "Tunnel connection failed: 429 Too Many Requests",
    "Tunnel connection failed: 408 Request Timeout",
    "Read timed out.",
)


def test_failure_says_what_to_do_and_to_try_again_only_where_waiting_helps() -> None:
    passing = dict.fromkeys(PASSING, "check network and proxy; try again later")
    for errors, kind in ((FAILURES, main.DeniedError), (passing, main.LostError)):
        for words, advice in errors.items():
            failure = main.explain_failure("GET x", f"HTTPSConnectionPool(): (Caused by {words})", "ca.pem", 1.0)
            assert type(failure) is kind
            assert re.search(f": {advice}", str(failure)), failure
            assert ("try again later" in str(failure)) == (kind is main.LostError)


CAS: dict[tuple[str, str, str], tuple[str | bool, str | bool]] = {
    ("", "", ""): (True, True),
    ("", "curl", ""): ("curl", "curl"),
    ("requests", "curl", ""): ("requests", "requests"),
    ("requests", "", "alibaba"): ("requests", "alibaba"),
}


def test_certificates_are_verified_whatever_the_variables_say(variables: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("curl", "requests", "alibaba"):
        (tmp_path / name).write_bytes(trustme.CA().cert_pem.bytes())
    variables.chdir(tmp_path)
    for values, expected in CAS.items():
        for name, value in zip(CA_VARIABLES, values):
            variables.setenv(name, value)
        environment = main.read_environment()
        sessions = (main.Web(environment).session, main.Ecs(REGIONS[0], environment).client.session)
        assert tuple(session.verify for session in sessions) == expected


PROXY_VARIABLES: dict[str, tuple[dict[str, str], str]] = {
    "none": ({}, ""),
    "without a scheme": ({"HTTPS_PROXY": "localhost:3128"}, "http://localhost:3128"),
    "with a password": ({"https_proxy": "http://u:s3cr+t%40x@[::1]:1"}, "http://u:s3cr+t%40x@[::1]:1"),
    "with a user": ({"HTTPS_PROXY": "https://token@a.b-c.d/"}, "https://token@a.b-c.d/"),
    "for all": ({"ALL_PROXY": "squid:3128"}, "http://squid:3128"),
    "two that differ": ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}, "http://a:1"),
    "one of them empty": ({"https_proxy": "", "HTTPS_PROXY": "http://b:2"}, "http://b:2"),
    "one that is not used": ({"HTTPS_PROXY": "http://b:2", "ALL_PROXY": "socks5://c:3"}, "http://b:2"),
}


@pytest.mark.parametrize(("values", "proxy"), PROXY_VARIABLES.values(), ids=PROXY_VARIABLES)
def test_one_proxy_is_chosen_as_by_curl(variables: pytest.MonkeyPatch, values: dict[str, str], proxy: str) -> None:
    for name, value in values.items():
        variables.setenv(name, value)
    main.read_environment()
    assert {os.environ.get(name, "") for name in main.PROXIES} == {proxy}
    assert get_environ_proxies("https://api.github.com").get("https", "") == proxy


def test_run_with_nothing_but_all_proxy_goes_by_the_proxy(prune: Prune) -> None:
    """The sandbox's proxy is the only way to its services."""
    only = "export ALL_PROXY=${HTTPS_PROXY#http://}; unset HTTPS_PROXY https_proxy HTTP_PROXY http_proxy"
    assert prune(prefix=in_shell(f'{only}; exec "$@"')).status == 0


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden"])
def test_proxy_that_refuses_is_asked_once(prune: Prune, status: str) -> None:
    prune.faults.proxy_refusal = status
    run = prune.assert_refused(status, "check HTTPS_PROXY")
    assert "try again later" not in run.output
    assert run.sandbox.tunnels == {API_HOST: 1}


def test_file_that_is_no_record_is_refused_before_any_call(prune: Prune) -> None:
    path = prune.write_record("{")
    run = prune.assert_refused("deleted_images.json is not what this program knows", "--filename")
    assert run.sandbox.tunnels == {}
    for content in (b"\xff", b"null", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(main.Refusal, match=r"deleted_images.json is not what .*--filename"):
            main.load_record(str(path))
    path.write_bytes(b"")
    assert main.load_record(str(path)) == {}
    path.unlink()
    os.mkfifo(path)
    for name in (str(path), "/dev/full"):  # They would be read without end.
        with pytest.raises(main.Refusal, match=f"the record {name} is not a file, .*--filename"):
            main.load_record(name)


@pytest.mark.parametrize("option", ["--filename=.", "--filename=missing/file", "--log-to-file=missing/file"])
def test_file_that_cannot_be_written_is_refused_before_any_call(prune: Prune, option: str) -> None:
    run = prune(option, "4.10")
    assert run.status == 1
    name, path = option.split("=")
    assert run.line(str(prune.folder / path), "directory", f"give another {name}")
    assert run.sandbox.tunnels == {}
