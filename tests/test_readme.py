"""The README says what is so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from world import image_id

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHELL_BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
SANDBOX = ROOT / "tests" / "sandbox.py"


def test_samples_are_what_the_sandbox_shows(tmp_path: Path) -> None:
    """Figures aside: they change with `CLOSED_REGIONS`."""

    def without_figures(line: str) -> str:
        return re.sub(r"\d+", "0", " ".join(line.split()))

    command = [sys.executable, str(SANDBOX), str(ROOT / "main.py"), "--dry-run", "4.10"]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    lines = set(map(without_figures, output.splitlines()))
    sample = re.search(r"```text\n(INFO .*?)```", README, re.DOTALL)
    assert sample and {line for line in sample[1].splitlines() if without_figures(line) not in lines} == set()
    images = re.findall(r"([a-z]+-[a-z]+-\d) (m-\S+) \((\S+)\)", sample[1])
    for build, entries in re.findall(r'"(410\S+)": \[\n(.*?)\]', README, re.DOTALL):
        images += [(region, id, build) for region, id in re.findall(r'"region": "(\S+)", "image": "(\S+)"', entries)]
    assert len(images) == 4 and all(image_id(build, region) == id for region, id, build in images)


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
