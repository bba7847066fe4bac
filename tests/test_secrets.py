"""Credentials reach no output. Prune checks that after every run; these runs are those where errors quote them."""

import pytest
from faults import Refused
from harness import Prune
from world import KEY_ID

DEBUG = {"DEBUG": "sdk"}


@pytest.mark.parametrize("lost", ["lost_before", "lost_after"])
def test_urls_of_lost_calls(prune: Prune, lost: str) -> None:
    setattr(prune.faults, lost, 0.5)
    prune.clock_speed = 20
    prune("--debug", "4.10", env=DEBUG)


@pytest.mark.parametrize(
    "env", [{"ALIYUN_ACCESS_KEY_ID": "LTAI5tUnknown"}, {"ALIYUN_ACCESS_KEY_SECRET": "wrong-secret-of-nobody"}]
)
def test_errors_of_refused_credentials(prune: Prune, env: dict[str, str]) -> None:
    run = prune("--debug", "4.10", env=DEBUG | env)
    assert run.status == 1
    for secret in env.values():
        assert secret not in run.output + run.log


def test_key_at_the_end_of_a_long_message_that_is_cut(prune: Prune) -> None:
    prune.faults.refusals["DeleteImage", ""] = Refused(403, "OperationDenied", "x" * 282 + KEY_ID)
    assert KEY_ID[:12] not in prune().output
