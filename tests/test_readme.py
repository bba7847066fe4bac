"""The README says what is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

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


def test_shell_blocks_parse() -> None:
    assert len(SHELL_BLOCKS) > 5
    for block in SHELL_BLOCKS:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_ci_runs_the_test_command() -> None:
    commands = [line for line in README.splitlines() if "pytest" in line]
    assert len(commands) == 1
    assert "grep -m 1 'pytest' README.md" in (ROOT / ".ci" / "run").read_text()
