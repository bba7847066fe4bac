"""Credentials reach no output. Prune checks that after every run; these runs are those where errors quote them."""

import pytest
from faults import Refused
from harness import Prune
from world import GITHUB_TOKEN, KEY_ID, SECRET, ecs_host

DEBUG = {"DEBUG": "sdk"}


def test_debug_run(prune: Prune) -> None:
    run = prune("--debug", "4.10", env=DEBUG)
    assert run.status == 0
    assert "DEBUG   us-east-1 DeleteImage: ok" in run.output


@pytest.mark.parametrize("lost", ["lost_before", "lost_after"])
def test_urls_of_lost_calls(prune: Prune, lost: str) -> None:
    setattr(prune.faults, lost, 0.5)
    prune.clock_speed = 20
    prune("--debug", "4.10", env=DEBUG)


def test_urls_of_a_region_that_cannot_be_reached(prune: Prune) -> None:
    prune.faults.dead_hosts.add(ecs_host("us-east-1"))
    prune.clock_speed = 20
    run = prune("--debug", "4.10", env=DEBUG)
    assert "Tunnel connection failed" in run.line("ERROR", "us-east-1: ", "images wait")


@pytest.mark.parametrize(
    "env", [{"ALIYUN_ACCESS_KEY_ID": "LTAI5tUnknown"}, {"ALIYUN_ACCESS_KEY_SECRET": "wrong-secret-of-nobody"}]
)
def test_errors_of_refused_credentials(prune: Prune, env: dict[str, str]) -> None:
    run = prune("--debug", "4.10", env=DEBUG | env)
    assert run.status == 1
    for secret in env.values():
        assert secret not in run.output + run.log


def test_message_of_the_api_that_quotes_everything(prune: Prune) -> None:
    message = f"{KEY_ID} {SECRET} {GITHUB_TOKEN} is not authorized: /?Signature=c2lnbmF0dXJl%3D&Action=DeleteImage"
    prune.faults.refusals["DeleteImage", ""] = Refused(403, "Forbidden.RAM", message)
    run = prune("--debug", "4.10")
    line = run.line("ERROR", "us-east-1: ", "images wait")
    assert "<ALIYUN_ACCESS_KEY_ID> <ALIYUN_ACCESS_KEY_SECRET> <GITHUB_TOKEN> is not authorized" in line
    assert "/?Signature=<redacted>&Action=DeleteImage" in line


def test_key_at_the_end_of_a_long_message_that_is_cut(prune: Prune) -> None:
    prune.faults.refusals["DeleteImage", ""] = Refused(403, "OperationDenied", "x" * 282 + KEY_ID)
    assert KEY_ID[:12] not in prune().output
