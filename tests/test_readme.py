"""The README says what is so."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHELL_BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


def test_help_of_the_program_called_by_its_name_is_what_the_readme_shows() -> None:
    help_block = re.search(r"```text\n(usage: .*?)```", README, re.DOTALL)
    assert help_block
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(["./main.py", "--help"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    # Python 3.9 has another heading.
    assert help_block[1] == done.stdout.replace("optional arguments:", "options:")


def test_inline_metadata_lists_the_packages_of_requirements_txt() -> None:
    """PEP 723, for `uv run main.py` and `pipx run main.py`."""
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", (ROOT / "main.py").read_text(), re.MULTILINE)
    assert block
    dependencies = re.search(r"^# dependencies = (\[.*\])$", block[1], re.MULTILINE)
    assert dependencies and '# requires-python = ">=3.9"\n' in block[1]
    assert json.loads(dependencies[1]) == (ROOT / "requirements.txt").read_text().split()


MAIL_STUBS = {"missing": None, "failing": "exit 75", "working": "cat > mail.txt"}


@pytest.mark.parametrize("mail", MAIL_STUBS.values(), ids=MAIL_STUBS)
def test_cron_example_goes_on_to_the_next_release_and_says_what_failed(tmp_path: Path, mail: str | None) -> None:
    script = next(block for block in SHELL_BLOCKS if "/etc/cron" in block)
    commands = tmp_path / "bin"
    commands.mkdir()
    podman = 'echo "$@" >> calls.txt; for n in $(seq 100); do echo "line $n of $*"; done; [[ $* != *4.11* ]]'
    for name, body in {"podman": podman, "mail": mail}.items():
        if body:
            (commands / name).write_text(f"#!/bin/bash\n{body}\n")
            (commands / name).chmod(0o755)
    for command in ("bash", "tail", "date", "cat", "seq"):
        (commands / command).symlink_to(str(shutil.which(command)))
    script = script.replace("/var/lib/rhcos-aliyun-pruner", str(tmp_path))
    env = {"PATH": str(commands)}
    run = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    releases = [line.split()[-1] for line in (tmp_path / "calls.txt").read_text().splitlines()]
    assert releases == ["4.11", "4.10"]  # the newest first, and the other one all the same
    told = (tmp_path / "mail.txt").read_text() if mail and "cat" in mail else run.stdout
    assert told.splitlines()[-1].startswith("line 100 of") and len(told.splitlines()) == 60


def test_shell_blocks_parse() -> None:
    assert len(SHELL_BLOCKS) > 5
    for block in SHELL_BLOCKS:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_ci_runs_the_test_command() -> None:
    commands = [line for line in README.splitlines() if "pytest" in line]
    assert len(commands) == 1
    assert "grep -m 1 'pytest' README.md" in (ROOT / ".ci" / "run").read_text()
