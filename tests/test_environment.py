"""What is wrong with the environment is found first, and told in one line that names the variable, not its value."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from faults import Answer, EcsFault
from harness import Prune, Run, in_shell, recorded
from world import GITHUB_TOKEN, KEY_ID, RAW_HOST, SECRET, STORE_HOST, World, builds_url, commits_url

SECRETS = {"ALIYUN_ACCESS_KEY_ID": KEY_ID, "ALIYUN_ACCESS_KEY_SECRET": SECRET, "GITHUB_TOKEN": GITHUB_TOKEN}
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def assert_refused_before_any_call(run: Run, variable: str, *words: str) -> None:
    assert run.status == 1
    assert run.line("ERROR", f"environment variable {variable} ", *words)
    assert run.output.count("ERROR") == 1
    assert run.sandbox.tunnels == {}


# CA certificates


# Secrets


@pytest.mark.parametrize(
    ("variable", "form"),
    [
        ("ALIYUN_ACCESS_KEY_ID", "\N{LEFT DOUBLE QUOTATION MARK}half %s\N{RIGHT DOUBLE QUOTATION MARK}"),
        ("GITHUB_TOKEN", "half%s\udcff"),
    ],
    ids=["typographic quotes", "not UTF-8"],
)
def test_malformed_secret(prune: Prune, variable: str, form: str) -> None:
    run = prune("--debug", "4.10", env={variable: form % SECRETS[variable]})
    assert_refused_before_any_call(run, variable, "malformed")
    assert "half" not in run.output + run.log


def test_secret_of_eight_characters_is_accepted(prune: Prune) -> None:
    run = prune(env={"ALIYUN_ACCESS_KEY_ID": "LTAI5t78"})
    assert run.line("ERROR", "refused the credentials", "InvalidAccessKeyId")


@pytest.mark.parametrize("form", ["%s\n", " %s "], ids=["line break", "spaces"])
def test_white_space_around_secrets_is_ignored(prune: Prune, form: str) -> None:
    run = prune(env={variable: form % secret for variable, secret in SECRETS.items()})
    assert run.status == 0
    assert set(run.sandbox.github.tokens) == {f"Bearer {GITHUB_TOKEN}"}


def test_netrc_does_not_replace_the_token(prune: Prune) -> None:
    hosts = ("api.github.com", RAW_HOST, STORE_HOST)
    netrc = prune.folder / ".netrc"
    netrc.write_text("".join(f"machine {host} login somebody password else\n" for host in hosts))
    netrc.chmod(0o600)
    assert set(prune(env={"HOME": str(prune.folder)}).sandbox.github.tokens) == {f"Bearer {GITHUB_TOKEN}"}
    without_token = prune(env={"HOME": str(prune.folder), "GITHUB_TOKEN": None})
    assert set(without_token.sandbox.github.tokens) == {""}


# Proxies


# Answers that no service should send


@pytest.mark.parametrize(
    ("url", "location"),
    [(commits_url(), "https://[::1"), (builds_url(), "https://exa..mple/")],
    ids=["GitHub", "store"],
)
def test_redirect_to_a_malformed_url(prune: Prune, url: str, location: str) -> None:
    prune.faults.answers[url] = Answer(302, b"", {"Location": location})
    prune.clock_speed = 50
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", url, "try again later (nothing was changed)")
    assert run.output.count("ERROR") == 1


@pytest.mark.parametrize(
    ("url", "retry_after"),
    [
        (builds_url(), "Fri, 31 Dec 99999 23:59:59 GMT"),
        (builds_url(), "9" * 400),
        (builds_url(), "soon"),
        (commits_url(), "9" * 400),
    ],
    ids=["date", "number", "word", "number, from GitHub"],
)
def test_retry_after_that_makes_no_sense(prune: Prune, url: str, retry_after: str) -> None:
    prune.faults.answers[url] = Answer(503, b"", {"Retry-After": retry_after})
    prune.clock_speed = 200
    run = prune()
    assert run.status == 1
    assert run.line("ERROR", url, "503", "try again later (nothing was changed)")


IMAGE = {"ImageId": "m-1", "ImageOwnerAlias": "self"}
STRANGE_IMAGES = {
    "a string": "m-1",
    "a disk is a string": IMAGE | {"DiskDeviceMappings": {"DiskDeviceMapping": ["s-1"]}},
}


STRANGE_ERRORS: dict[str, object] = {
    "a list": [],
    "code is a list": {"RequestId": "1", "Code": ["Throttling"], "Message": "no"},
    "message is an object": {"RequestId": "1", "Code": "OperationDenied", "Message": {}},
    "not UTF-8": b"\xff",
}


@pytest.mark.parametrize("body", STRANGE_ERRORS.values(), ids=STRANGE_ERRORS)
def test_error_of_another_type_fails_only_its_region(world: World, prune: Prune, body: object) -> None:
    prune.faults.ecs.append(EcsFault("DeleteImage", "us-east-1", answer=Answer(400, body)))
    prune.clock_speed = 150 if "Throttling" in str(body) else 60  # that one is retried for 15 minutes
    run = prune()
    assert run.status == 1
    assert {image.region for image in world.listed("to be pruned")} == {"us-east-1"}
    assert "unexpected" not in run.output


# The machine


STDOUTS = {
    "closed": '"$@" >&-',
    "a closed pipe": '"$@" | true',
    "closed, and stderr": '"$@" >&- 2>&-',
    "closed, and stdin": '"$@" >&- <&-',
}


@pytest.mark.parametrize("script", STDOUTS.values(), ids=STDOUTS)
def test_nobody_reads_stdout(world: World, prune: Prune, script: str) -> None:
    run = prune(prefix=in_shell(script))
    assert run.output == ""
    assert run.status == 0
    assert world.listed("to be pruned") == []
    assert all(recorded(run).values())
    assert "INFO ended with status 0 after" in run.log.splitlines()[-1]


THREADS = {
    "none": "ulimit -s 4000000; ulimit -v 2000000",
    "some": "ulimit -s 50000; ulimit -v 2000000",
}


STDERR_APART = in_shell('"$@" 2>stderr')


def test_missing_packages_are_named_in_one_line(prune: Prune) -> None:
    run = prune(prefix=STDERR_APART, python=[sys.executable, "-I", "-S"])
    assert run.status == 1
    assert run.output == ""
    assert re.fullmatch(
        r"main.py: error: No module named .*: install .*pip install -r requirements.txt.*\n",
        (prune.folder / "stderr").read_text(),
    )


def old_python() -> str:
    """A Python 3.8 that works, or an empty string."""
    path = shutil.which("python3.8") or ""
    works = path and subprocess.run([path, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0
    return path if works else ""


@pytest.mark.skipif(not old_python(), reason="there is no python3.8")
def test_old_python_is_named_in_one_line(prune: Prune) -> None:
    run = prune(prefix=STDERR_APART, python=[old_python()])
    assert run.status == 1
    assert run.output == ""
    error = (prune.folder / "stderr").read_text()
    assert re.fullmatch(r"main.py: error: this is Python 3\.8\.\d+: install Python 3.9 or later\n", error)
    assert [path.name for path in prune.folder.iterdir()] == ["stderr"]
