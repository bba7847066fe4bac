"""Arguments, files and exit statuses."""

import json

import pytest
from harness import BOOTIMAGE, PRIVATE_BUILD, PUBLIC_BUILD, REGIONS, Prune, recorded
from world import World, image_id


@pytest.mark.parametrize("release", ["4", "٤.١٠"])  # noqa: RUF001
def test_release_of_another_form_is_a_usage_error(prune: Prune, release: str) -> None:
    run = prune(release)
    assert run.status == 2
    assert "give it in the form 4.10" in run.output
    assert list(prune.folder.iterdir()) == []


def test_release_is_required(prune: Prune) -> None:
    assert prune("--dry-run").status == 2


def test_dry_run_changes_nothing_and_writes_no_record(world: World, prune: Prune) -> None:
    before = {image.id: (image.public, dict(image.tags), image.deleted_at) for image in world.images.values()}
    run = prune("--dry-run", "4.10")
    assert run.status == 0
    assert {image.id: (image.public, image.tags, image.deleted_at) for image in world.images.values()} == before
    assert {call.what for call in run.calls("ecs")} == {"DescribeImages"}
    assert not (prune.folder / "deleted_images.json").exists()


def test_dry_run_names_each_image_in_one_line(prune: Prune) -> None:
    run = prune("--dry-run", "4.10")
    for region in REGIONS:
        public, private = image_id(PUBLIC_BUILD, region), image_id(PRIVATE_BUILD, region)
        assert run.line(region, public).endswith("would be tagged bootimage=false, made private, deleted")
        assert run.line(region, private).endswith("would be tagged bootimage=false, deleted")
        assert run.line(region, image_id(BOOTIMAGE, region)).endswith("would be tagged bootimage=true")


def test_dry_run_leaves_an_existing_record_as_it_is(prune: Prune) -> None:
    path = prune.write_record('{"410.84.202001010000-0":   []}')
    prune("--dry-run", "4.10")
    assert path.read_text() == '{"410.84.202001010000-0":   []}'


def test_files_elsewhere(prune: Prune) -> None:
    folder = prune.folder / "host"
    folder.mkdir()
    run = prune("--filename", str(folder / "record.json"), "--log-to-file", str(folder / "run.log"), "4.10")
    assert run.status == 0
    assert PUBLIC_BUILD in json.loads((folder / "record.json").read_text())
    assert "deleted" in (folder / "run.log").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["record.json", "run.log"]
    assert list(prune.folder.iterdir()) == [folder]


def test_log_of_an_earlier_run_is_kept(prune: Prune) -> None:
    first = prune().log
    assert prune().log.startswith(first)


def test_record_of_the_original_script_is_read(world: World, prune: Prune) -> None:
    """It wrote one line, and put builds without images on record as empty lists."""
    public, private = world.images_of(PUBLIC_BUILD), world.images_of(PRIVATE_BUILD)
    for image in private:
        del world.images[image.id]
    record = {
        PUBLIC_BUILD: [{"region": i.region, "image": i.id, "deleted": False} for i in public],
        PRIVATE_BUILD: [{"region": i.region, "image": i.id, "deleted": True} for i in private],
        "410.84.202001010000-0": [],
    }
    prune.write_record(record)
    run = prune()
    assert run.status == 0
    assert not any(image.listed for image in public)
    assert all(recorded(run).values())
    assert list(run.record)[:3] == list(record)
    assert run.calls("store", PUBLIC_BUILD) == []


def test_debug_adds_lines(prune: Prune) -> None:
    run = prune("-d", "4.10")
    assert run.status == 0
    assert "DEBUG" in run.output
    assert "DEBUG" in run.log
