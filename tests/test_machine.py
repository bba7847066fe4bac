"""The state of the machine, of the shell and of Python does no harm, or is told in one line."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

from harness import MAIN, Prune, in_shell
from world import API_HOST, GITHUB_TOKEN, World


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
    assert run.status == 1
    assert len(run.output.splitlines()) == 1
    assert os.strerror(2) in run.output


def assert_one_line(*command: str, line: str) -> None:
    process = subprocess.run([sys.executable, "-I", "-S", *command], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (1, "")
    assert re.fullmatch(f"main.py: error: {line}\n", process.stderr)


def test_missing_packages_are_named_in_one_line() -> None:
    assert_one_line(str(MAIN), "4.10", line="No module named .*: install .*pip install -r requirements.txt.*")


def test_old_python_is_named_in_one_line() -> None:
    """It must be able to read the file before it can say so."""
    ast.parse(MAIN.read_text(), feature_version=(3, 8))
    pretend = "import runpy, sys; sys.version_info, sys.version = (3, 8, 20), '3.8.20 (default)'"
    run = f"runpy.run_path({str(MAIN)!r}, run_name='__main__')"
    assert_one_line("-c", f"{pretend}; {run}", line=r"this is Python 3\.8\.20: install Python 3\.9 or later")
