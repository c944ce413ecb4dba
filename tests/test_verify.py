"""`heliograph verify` finds what was done to an output, `--verify_masters` what to its masters."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import cli
from pipeline.job import ExitCode
from pipeline.ledger import LedgerError
from pipeline.verify import verify
from tests import saved_models
from tests.jobs import run

RECIPE = ("--recipe", "mask:3", "--image_format", "png")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, photographs) -> dict[str, Path]:
    """Outputs of one job in every container, to be copied and damaged; nobody writes to these."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "archive" / "box").mkdir(parents=True)
    for name in ("astronaut", "coffee", "rocket"):
        Image.fromarray(photographs[name][:90, :80]).save(folder / "archive" / f"{name}.png")
    Image.fromarray(photographs["chelsea"]).save(folder / "archive" / "box" / "chelsea.jpg")
    made = {"archive": folder / "archive"}
    for container in ("folder", "tfrecord", "webdataset", "parquet"):
        made[container] = folder / container
        options = ("--output_format", container, "--batch_size", 2)
        run("degrade", made["archive"], made[container], *RECIPE, *options, code=0)
    return made


@pytest.fixture(params=["folder", "tfrecord", "webdataset", "parquet"])
def output(request, outputs, tmp_path) -> Path:
    return shutil.copytree(outputs[request.param], tmp_path / "out")


def flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(data)


def files(output: Path, folder: str) -> list[Path]:
    return sorted(path for path in (output / folder).rglob("*") if path.is_file())


def kinds(found: dict) -> dict[str, int]:
    named = ("missing", "changed", "broken", "stray", "uncommitted")
    return {kind: found["counts"][kind] for kind in named if found["counts"][kind]}


def test_an_output_as_it_was_written_is_sound(output):
    for deep in (False, True):
        found = verify(str(output), deep=deep, with_masters=True)
        assert found["sound"]
        assert found["findings"] == []
        assert found["counts"]["images"] == found["counts"]["derivatives"] == 4
        assert found["counts"]["masks"] == 4
        assert found["masters"] == {"unchanged": 4, "changed": []}
    listed = [path for folder in ("images", "masks", "shards") for path in files(output, folder)]
    assert found["counts"]["bytes"] == sum(path.stat().st_size for path in listed)


@pytest.mark.parametrize("at", [0.0, 0.37, 0.999])
def test_one_bit_of_one_file_is_found_and_named(output, at):
    folder = "images" if (output / "images").exists() else "shards"
    path = files(output, folder)[0]
    flip(path, at)
    found = verify(str(output))
    assert not found["sound"]
    first = (
        found["findings"][0]
        if folder == "images"
        else next(one for one in found["findings"] if one["path"] == f"shards/{path.name}")
    )
    assert first["path"] == path.relative_to(output).as_posix()
    assert first["kind"] == "changed"
    assert "its SHA-256 is" in first["reason"]
    assert len(first["keys"]) == (1 if folder == "images" else 2)


def test_of_a_damaged_shard_the_damaged_image_is_named(outputs, tmp_path):
    output = shutil.copytree(outputs["webdataset"], tmp_path / "out")
    path = files(output, "shards")[0]
    row = json.loads(next((output / "ledger" / "batches").glob(f"{path.stem}.json")).read_text())
    image = row["rows"][1]
    data = path.read_bytes()
    start = data.index(b"IDAT", data.index(image["member"].encode()))
    path.write_bytes(data[: start + 40] + bytes([data[start + 40] ^ 1]) + data[start + 41 :])
    found = verify(str(output))
    assert [(one["path"], one["keys"]) for one in found["findings"]] == [
        (f"shards/{path.name}", [row["key"] for row in row["rows"]]),
        (f"shards/{path.name}#{image['member']}", [image["key"]]),
    ]


def test_what_is_gone_cut_or_nobodys_is_told_apart(outputs, tmp_path):
    output = shutil.copytree(outputs["folder"], tmp_path / "out")
    (output / "images" / "rocket.png").unlink()
    with (output / "images" / "coffee.png").open("r+b") as cut:
        cut.truncate(100)
    flip(output / "masks" / "astronaut.png.png")
    (output / "images" / "box" / "notes.txt").write_text("mine")
    (output / "masks" / "extra.png").write_bytes(b"")
    (output / "README").write_text("what is beside these folders is nobody's business")
    found = verify(str(output))
    assert [(one["kind"], one["path"], one["keys"]) for one in found["findings"]] == [
        ("missing", "images/rocket.png", ["rocket.png"]),
        ("changed", "images/coffee.png", ["coffee.png"]),
        ("changed", "masks/astronaut.png.png", ["astronaut.png"]),
        ("stray", "images/box/notes.txt", []),
        ("stray", "masks/extra.png", []),
    ]
    assert found["findings"][1]["reason"].startswith("it has 100 bytes, not ")


def test_what_is_not_committed_and_what_is_no_commit_record_is_said(outputs, tmp_path):
    output = shutil.copytree(outputs["folder"], tmp_path / "out")
    one, other, *_ = files(output, "ledger/batches")  # of an image each
    one.unlink()
    assert kinds(verify(str(output))) == {"stray": 2, "uncommitted": 1}
    other.write_bytes(other.read_bytes()[:-200])
    found = verify(str(output))
    assert kinds(found) == {"broken": 1, "stray": 4}
    assert found["findings"][0]["path"] == f"ledger/batches/{other.name}"
    with pytest.raises(LedgerError, match="is no output"):
        verify(str(tmp_path))


def test_a_bag_is_verified_as_what_it_holds(outputs, tmp_path):
    output = tmp_path / "bag"
    run("degrade", outputs["archive"], output, *RECIPE, "--package", "bagit", code=0)
    assert verify(str(output))["sound"]
    flip(output / "data" / "images" / "rocket.png")
    found = verify(str(output))
    assert found["output"] == str(output / "data")
    assert [one["path"] for one in found["findings"]] == ["images/rocket.png"]


def test_deep_decodes_what_is_as_it_was_written(outputs, tmp_path):
    """A derivative that was written broken has the digest that it was written with."""
    archive, output = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    whole = (outputs["archive"] / "coffee.png").read_bytes()
    (archive / "cut.png").write_bytes(whole[: len(whole) // 2])
    (archive / "whole.png").write_bytes(whole)
    for container in ("folder", "tfrecord"):
        options = ("--output_format", container, "--overwrite")
        run("convert", archive, output, *options, code=0)  # which decodes nothing
        assert verify(str(output))["sound"]
        (finding,) = verify(str(output), deep=True)["findings"]
        assert (finding["kind"], finding["keys"]) == ("broken", ["cut.png"])
        assert "it cannot be decoded" in finding["reason"]


def test_what_is_quarantined_is_verified_as_well(outputs, tmp_path, models):
    archive, output = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for name in ("astronaut", "rocket"):
        Image.open(outputs["archive"] / f"{name}.png").convert("L").save(archive / f"{name}.png")
    options = ("--model", models / "constant_chroma", "--guard", "gray=100")
    run("restore", archive, output, *options, "--output_format", "tfrecord", code=3)
    found = verify(str(output), deep=True)
    assert found["sound"]
    assert (found["counts"]["quarantined"], found["counts"]["derivatives"]) == (2, 0)
    flip(output / "quarantine" / "rocket.png")
    (finding,) = verify(str(output))["findings"]
    assert (finding["path"], finding["keys"]) == ("quarantine/rocket.png", ["rocket.png"])


def test_the_command_prints_json_and_its_exit_code_says_how_it_is(outputs, tmp_path, heliograph):
    output = shutil.copytree(outputs["folder"], tmp_path / "out")
    done = heliograph("verify", output)
    assert json.loads(done.stdout)["sound"]
    assert "4 derivatives, 0 quarantined, 4 masks" in done.stderr
    flip(output / "images" / "box" / "chelsea.jpg.png")
    done = heliograph("verify", output, "--json", tmp_path / "found.json", code=4)
    assert done.stdout == ""
    assert "changed: images/box/chelsea.jpg.png" in done.stderr
    assert json.loads((tmp_path / "found.json").read_text())["counts"]["changed"] == 1
    assert cli.main(["verify", str(tmp_path / "nowhere")]) == ExitCode.USAGE


# -- masters ---------------------------------------------------------------------------------------


def sharded(path: Path, archive: Path) -> None:
    keys = sorted(p.relative_to(archive).as_posix() for p in archive.rglob("*.*"))
    images = [{"bytes": (archive / key).read_bytes(), "path": key} for key in keys]
    path.parent.mkdir()
    pq.write_table(pa.table({"image": images}), path)


def test_masters_that_are_untouched_are_said_to_be(outputs, tmp_path):
    np.save(tmp_path / "arrays.npy", np.zeros((3, 20, 30), np.uint8))
    sharded(tmp_path / "shards" / "photographs.parquet", outputs["archive"])
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "gone.png").symlink_to("nowhere.png")  # of which there is no digest
    archives = [
        outputs["archive"],
        *(tmp_path / name for name in ("shards", "arrays.npy", "links")),
    ]
    options = ("--verify_masters", "--batch_size", 3)
    ended = run("degrade", *archives, tmp_path / "out", *RECIPE, *options, code=3)
    assert ended.summary["masters"] == {"unchanged": 4 + 4 + 3, "changed": []}
    assert ended.summary["failed"] == 1


def test_a_model_that_writes_over_a_master_fails_its_job(outputs, tmp_path):
    archive, output = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    shutil.copy(outputs["archive"] / "coffee.png", archive)
    model = saved_models.hidden_write(tmp_path / "model", archive / "coffee.png")
    options = ("--model", model, "--input_range", "0,1", "--output_range", "0,1", "--trust_model")
    ended = run("restore", archive, output, *options, "--verify_masters", code=4)
    (changed,) = ended.summary["masters"]["changed"]
    assert (changed["key"], changed["source"]) == ("coffee.png", str(archive / "coffee.png"))
    assert changed["reason"].endswith(f"and is {sha256(b'here I was').hexdigest()}")
    shutil.copy(outputs["archive"] / "coffee.png", archive)
    again = run("restore", archive, output, *options, code=0)
    assert "masters" not in again.summary, "they have not been hashed again"


def test_masters_that_were_changed_since_are_named(outputs, tmp_path):
    archive, output = shutil.copytree(outputs["archive"], tmp_path / "archive"), tmp_path / "out"
    shard = archive / "shards" / "photographs.parquet"
    sharded(shard, outputs["archive"])
    run("degrade", archive, output, *RECIPE, code=0)
    (archive / "coffee.png").unlink()
    flip(archive / "rocket.png")
    table = pq.read_table(shard).to_pydict()
    table["image"][1]["bytes"] += b"."
    pq.write_table(pa.table(table), shard)
    found = verify(str(output), with_masters=True)
    assert not found["sound"]
    assert found["findings"] == []
    changed = {one["key"]: one["reason"] for one in found["masters"]["changed"]}
    assert sorted(changed) == [
        "coffee.png",
        "rocket.png",
        f"shards/photographs.parquet#{table['image'][1]['path']}",
    ]
    assert "No such file" in changed["coffee.png"]
    assert "its SHA-256 was" in changed["rocket.png"]
    assert found["masters"]["unchanged"] == 8 - 3
