"""What the arguments mean, and where the files go."""

from __future__ import annotations

import json

import pytest
from harness import PUBLIC_BUILD, Prune

import main


@pytest.mark.parametrize("release", ["4", "4.", "4.010", "04.10", "4.10.1", "v4.10", "4.10 ", "٤.١٠"])  # noqa: RUF001
def test_release_of_another_form_is_a_usage_error(capsys: pytest.CaptureFixture[str], release: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main.parse_args([release])
    assert ended.value.code == 2
    assert f"{release!r} is not a release: give it in the form 4.10" in capsys.readouterr().err


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
