"""The README says what is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Prune

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHELL_BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


def test_help_is_what_the_program_prints(prune: Prune) -> None:
    help_block = re.search(r"```text\n(usage: .*?)```", README, re.DOTALL)
    assert help_block
    run = prune("--help", env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert run.status == 0
    # Python 3.9 has another heading.
    assert help_block[1] == run.output.replace("optional arguments:", "options:")


@pytest.mark.parametrize("block", SHELL_BLOCKS)
def test_shell_block_parses(block: str) -> None:
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_there_are_shell_blocks() -> None:
    assert len(SHELL_BLOCKS) > 5


def test_ci_runs_the_test_command() -> None:
    commands = [line for line in README.splitlines() if "pytest" in line]
    assert len(commands) == 1
    assert "grep -m 1 'pytest' README.md" in (ROOT / ".ci" / "run").read_text()


def test_program_can_be_called_by_its_name() -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["./main.py", "--help"], cwd=ROOT, env={"PATH": path}, capture_output=True, check=True)
    assert done.stdout.startswith(b"usage: main.py")
