"""No secret in any output. What a run leaves is searched for them after every test; here is what may go wrong."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote

import pytest
from faults import Fault, ecs_error
from harness import PRIVATE_BUILD, REGIONS, Prune
from world import GITHUB_TOKEN, KEY_ID, SECRET, SECURITY_TOKEN, TEMPORARY_KEY_ID, TEMPORARY_SECRET, image_id

import main


def test_debug_run_has_each_call_with_what_it_is_about_and_no_secret_is_in_any_output(prune: Prune) -> None:
    message = f"{KEY_ID} {SECRET} {GITHUB_TOKEN} /?Signature=c2lnbmF0dXJl%3D&Action=DeleteImage"
    failing = image_id(PRIVATE_BUILD, REGIONS[0])
    prune.faults.failing = [Fault("DeleteImage", ecs_error(403, "OperationDenied", message), id=failing)]
    prune.faults.accidents, prune.clock_speed = 0.08, 20
    run = prune("-d", "4.10", env={"DEBUG": "sdk"})  # It checks that there is no secret.
    assert len(re.findall(r"DEBUG.* in \d+\.\d+ s\n", run.output)) == len(run.sandbox.calls)
    deletions = re.findall(r"DEBUG +\S+ DeleteImage \['(m-[0-9a-f]{20})'\]: ", run.output)
    assert len(re.findall(r"DEBUG +\S+ DeleteImage .*: ok, RequestId [0-9A-F-]{36} in", run.output)) >= 2
    assert sorted(deletions) == sorted(call.ids[0] for call in run.calls("ecs", "DeleteImage"))
    assert run.line("ERROR", "<ALIYUN_ACCESS_KEY_ID>") and "c2ln" not in run.output


PASSWORD = "s3cr+t%40x"
REDACTED = {
    f"key {SECRET}!": "key <ALIYUN_ACCESS_KEY_SECRET>!",
    "?Signature=a%2Fb%3D&Action=x Signature%3DT%252F": "?Signature=<redacted>&Action=x Signature%3D<redacted>",
    "to sign: SecurityToken%3DCAIS%252Btoken%253D": "to sign: SecurityToken%3D<redacted>",
    "407: Basic ZGVwbG95ZXI6cEBzc3dvcnQ= is wrong": "407: Basic <redacted> is wrong",
    f"http://openshift:{PASSWORD}@proxy:3128/": "http://<HTTPS_PROXY>@proxy:3128/",
    f"{PASSWORD} {unquote(PASSWORD)}": "<HTTPS_PROXY> <HTTPS_PROXY>",
    "repos/openshift/installer": "repos/openshift/installer",  # The user of a proxy with a password is no secret.
    "a\n1 INFO\x1b[2J\u202e": r"a\n1 INFO\x1b[2J\u202e",
}


def test_no_foreign_text_forges_a_line_or_shows_a_secret(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ALIYUN_ACCESS_KEY_SECRET", f" {SECRET} ")
    variables.setenv("HTTPS_PROXY", f"http://openshift:{PASSWORD}@proxy:3128")
    for text, expected in REDACTED.items():
        assert main.RedactingFormatter().format(logging.makeLogRecord({"msg": text})) == expected
    assert main.one_line("a\n b") == "a b"
    for cut in (main.one_line(f"{'x' * 290}{SECRET}"), main.excerpt(f"{'x' * 90}{SECRET}".encode())):
        assert SECRET[:3] not in cut and cut.endswith("...")
    variables.setenv("HTTPS_PROXY", "http://t0kenOfUser@proxy:3128")
    assert main.redact("t0kenOfUser@proxy") == "<HTTPS_PROXY>@proxy"


MALFORMED = {
    "'s3cretValue'": "quotation marks",
    "\N{LEFT DOUBLE QUOTATION MARK}s3cretValue": "malformed",
    "s3cret\nValue": "malformed",
    "s3cretValue\udcff": "malformed",
    "s3cretV": "too short",
}
# urllib3 would take a part of the password for the host, show it, and look it up in the DNS.
MALFORMED_PROXIES = [
    "http://releng:P@ssW0rds3cr#1@proxy:3128",
    *(f"http://u:s3cr{char}t@127.0.0.1:9" for char in "@#/? \\[]:\N{EURO SIGN}"),
    "http://CORP\\u:s3cr@127.0.0.1:9",
    *(f"{scheme}://u:s3cr@127.0.0.1:9" for scheme in ("ftp", "socks5")),
    *(f"http://u:s3cr@{host}" for host in ("exa..mple:1", "127.0.0.1:9\r", "127.0.0.1:port")),
]


def test_malformed_variable_is_named_but_not_its_value(variables: pytest.MonkeyPatch) -> None:
    rows = [(name, value, words) for name in main.SECRETS for value, words in MALFORMED.items()]
    rows += [(name, value, "is not of the form") for name in main.PROXIES for value in MALFORMED_PROXIES]
    for name, value, words in rows:
        with variables.context() as changed:
            changed.setenv(name, value)
            with pytest.raises(main.Refusal, match=f"variable {name} .*{words}") as refusal:
                main.read_environment()
        assert "s3cr" not in str(refusal.value).lower()


def test_temporary_key_is_used_with_its_token_and_refused_without(prune: Prune) -> None:
    """White space around the values is no part of them."""
    env = dict(zip(main.SECRETS, (f" {TEMPORARY_KEY_ID}\r\n", f"{TEMPORARY_SECRET} ")))
    run = prune.assert_refused("ALIYUN_SECURITY_TOKEN is not set", env=env)
    assert run.sandbox.tunnels == {}
    run = prune("--debug", "4.10", env={**env, "ALIYUN_SECURITY_TOKEN": f" {SECURITY_TOKEN}"})
    assert (run.status, prune.world.listed("to be pruned")) == (0, [])
