"""Every call is verified, whatever the environment says about certificates."""

from __future__ import annotations

import pytest
from harness import REGIONS, Prune, Run
from world import API_HOST, World, ecs_host

ECS_HOST = ecs_host(REGIONS[0])
VARIABLES = ("ALIBABA_CLOUD_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
VALUES = {"unset": None, "empty": ""}


def environment(requests_bundle: str, alibaba_bundle: str, curl_bundle: str = "set") -> dict[str, str | None]:
    """What to change in the environment of the sandbox, which sets all three variables to the file of its CA."""
    settings = zip(VARIABLES, (alibaba_bundle, requests_bundle, curl_bundle))
    return {name: VALUES[setting] for name, setting in settings if setting != "set"}


def assert_refused_certificate(run: Run, host: str, variable: str, connections: int = 1) -> None:
    """No call arrived at this host, and nothing was changed; the message names host, variable and file.

    There were at most so many connections, so none was retried.
    """
    assert run.status == 1
    assert 1 <= run.sandbox.tunnels[host] <= connections
    assert [call for call in run.sandbox.calls if host in (call.where, ecs_host(call.where))] == []
    assert {call.what for call in run.calls("ecs")} <= {"DescribeImages"}
    assert run.line("ERROR", host, "CERTIFICATE_VERIFY_FAILED", f"verified with {variable}={run.sandbox.ca_file}")


@pytest.mark.parametrize(("requests_bundle", "alibaba_bundle"), [("empty", "unset"), ("unset", "empty")])
def test_good_certificates(world: World, prune: Prune, requests_bundle: str, alibaba_bundle: str) -> None:
    run = prune(env=environment(requests_bundle, alibaba_bundle))
    assert run.status == 0
    assert world.listed("to be pruned") == []


@pytest.mark.parametrize(("requests_bundle", "alibaba_bundle"), [("unset", "unset"), ("empty", "set")])
def test_without_a_variable_only_well_known_cas_are_trusted(
    prune: Prune, requests_bundle: str, alibaba_bundle: str
) -> None:
    run = prune(env=environment(requests_bundle, alibaba_bundle, curl_bundle=requests_bundle))
    assert run.status == 1
    assert run.sandbox.calls == []
    assert run.sandbox.tunnels == {API_HOST: 1}
    assert run.line("ERROR", API_HOST, "CERTIFICATE_VERIFY_FAILED", "CA certificates of the package certifi")
