"""What the arguments mean, where the files go; and what the machine or Python lacks is told in one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from harness import MAIN, PUBLIC_BUILD, Prune, in_shell
from world import API_HOST, GITHUB_TOKEN, World

import main

RELEASES = ["4", "4.", "4.010", "04.10", "4.10.1", "v4.10", "4.10 ", "٤.١٠"]  # noqa: RUF001
USAGE_ERRORS = [([release], f"{release!r} is not a release: give it in the form 4.10") for release in RELEASES]
USAGE_ERRORS += [([f"--{file}=", "4.10"], f"--{file}: a file name must not be") for file in ("filename", "log-to-file")]
USAGE_ERRORS += [(["--filename=x", "--log-to-file=./x", "4.10"], "are the same file")]
USAGE_ERRORS += [(["--delete", "4.10"], "unrecognized arguments: --delete")]  # An option is written out.


@pytest.mark.parametrize(("args", "words"), USAGE_ERRORS)
def test_wrong_argument_is_named(capsys: pytest.CaptureFixture[str], args: list[str], words: str) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main.parse_args(args)
    assert words in capsys.readouterr().err


def test_files_may_lie_elsewhere_and_the_log_of_an_earlier_run_is_kept(prune: Prune) -> None:
    folder = prune.folder / "host"
    folder.mkdir()
    (folder / "run.log").write_text("an earlier run\n")
    run = prune("--filename", "host/record.json", "--log-to-file", str(folder / "run.log"), "4.10")
    assert run.status == 0
    assert PUBLIC_BUILD in json.loads((folder / "record.json").read_text())
    assert (folder / "run.log").read_text().startswith("an earlier run\n20")
    assert run.line(f"record: {folder}/record.json, log: {folder}/run.log")
    assert sorted(path.name for path in folder.iterdir()) == ["record.json", "run.log"]
    assert list(prune.folder.iterdir()) == [folder]


def test_surroundings_that_do_not_concern_the_run_do_no_harm(world: World, prune: Prune) -> None:
    """A lock on the folder, a proxy variable that is not used, a ~/.netrc."""
    netrc = prune.folder / ".netrc"
    netrc.write_text(f"machine {API_HOST} login somebody password else\n")
    netrc.chmod(0o600)
    prune.clock_speed = 20
    env = {"HOME": str(prune.folder), "ALL_PROXY": "socks://127.0.0.1:9050/"}
    run = prune(prefix=["flock", "-n", str(prune.folder)], env=env)
    assert (run.status, world.listed("to be pruned")) == (0, [])
    assert set(run.sandbox.github.tokens) == {f"Bearer {GITHUB_TOKEN}"}


def test_working_folder_that_does_not_exist_any_more_is_one_line(prune: Prune) -> None:
    run = prune(prefix=in_shell('mkdir gone && cd gone && rmdir ../gone && exec "$@"'))
    assert (run.status, len(run.output.splitlines())) == (1, 1)
    assert os.strerror(2) in run.output


def test_missing_packages_are_named_in_one_line() -> None:
    command = [sys.executable, "-I", "-S", str(MAIN), "4.10"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (1, "")
    assert re.fullmatch(
        "main.py: error: No module named .*: install .*pip install -r requirements.txt.*\n", process.stderr
    )
