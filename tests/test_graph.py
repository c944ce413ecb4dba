import argparse
import sys
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that

from pipeline import cli, graph, job
from pipeline.ledger import Ledger
from pipeline.options import BATCH_SIZE, CONTAINERS, FOLDER, OPTIONS, SHARDS
from pipeline.plan import Budget, make_plan
from transforms.read import Read
from transforms.record import Batch
from transforms.restore import Restore
from transforms.shards.writers import WRITERS
from transforms.stage import BatchCoder


@pytest.fixture
def evaluation(archive, tmp_path) -> job.Job:
    parser, _ = cli._parser()
    arguments = ["evaluate", str(archive), str(tmp_path / "out"), "--recipe", "mask:3"]
    return job.make_job(parser.parse_args(arguments))


def test_pixels_never_cross_a_shuffle(evaluation):
    pipeline = beam.Pipeline(runner=FnApiRunner())
    plan = make_plan(evaluation.archives, Budget())
    references = Ledger(evaluation.output).begin({}, plan.specs, anew=True)
    graph.build(pipeline, evaluation, references)
    proto = pipeline.to_runner_api()
    parts = proto.components
    batches = {
        identity for identity, coder in parts.coders.items() if b"BatchCoder" in coder.spec.payload
    }
    grouping = [
        parts.pcollections[name]
        for transform in parts.transforms.values()
        if transform.spec.urn == "beam:transform:group_by_key:v1"
        for name in transform.inputs.values()
    ]
    # References to specs, counts, names of commit records, and statistics.
    assert len(grouping) == 4
    for collection in grouping:
        assert not batches & reached(parts.coders, collection.coder_id)
    # And whatever holds pixels has a coder that knows their size without pickling them.
    held = [
        transform.unique_name
        for transform in parts.transforms.values()
        for name in transform.outputs.values()
        if parts.pcollections[name].coder_id in batches
    ]
    for stage in ("Read", "Degrade", "Restore", "Measure", "Write"):
        assert any(name.startswith(f"{stage}/") for name in held), stage


def reached(coders, identity: str) -> set[str]:
    return {identity}.union(*(reached(coders, c) for c in coders[identity].component_coder_ids))


def test_the_batch_coder_knows_the_size_of_pixels_and_can_carry_them(archive):
    plan = make_plan([str(archive)], Budget())
    (batch,) = plan.specs[0].batches()
    coder = BatchCoder()
    assert coder.estimate_size(batch) == 0
    pixels = np.zeros((10, 20, 3), np.uint8)
    held = Batch(batch.id, tuple(record.replace(pixels=pixels) for record in batch.records))
    assert coder.estimate_size(held) == 600 * len(held)
    back = coder.decode(coder.encode(held))
    assert back.id == held.id
    np.testing.assert_array_equal(back.records[0].pixels, pixels)


def test_the_transforms_serve_a_pipeline_of_ones_own(archive, models):
    from heliograph import SavedModelHandler

    specs = [spec.to_json() for spec in make_plan([str(archive)], Budget()).specs]

    def inverted(batches):
        records = [record for batch in batches for record in batch.records]
        assert len(records) == 4
        for record in records:
            np.testing.assert_array_equal(record.restored, 255 - record.pixels)

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        restored = (
            pipeline
            | beam.Create(specs)
            | Read()
            | Restore(SavedModelHandler(str(models / "invert"), precision="float32"))
        )
        assert_that(restored, inverted)


def test_help_imports_neither_beam_nor_tensorflow(capsys):
    import subprocess

    code = (
        "import sys\nfrom pipeline.cli import main\n"
        "try: main(['restore', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'apache_beam', 'tensorflow', 'keras', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--precision" in done.stdout


def test_beams_options_are_understood_and_kept_apart(archive, tmp_path):
    from apache_beam.options.pipeline_options import FlinkRunnerOptions, StandardOptions

    from pipeline import beam_options

    parser, commands = cli._parser()
    own = beam_options.add_to(commands["restore"])
    arguments = ["--runner", "FlinkRunner", "restore", "--flink_master", "host:8081"]
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    args = parser.parse_args(
        ["restore", "--runner", "FlinkRunner", str(archive), "--flink_master", "h:1", "out"]
    )
    assert isinstance(args, argparse.Namespace)
    assert (args.archive, args.output) == ([str(archive)], "out")
    options = beam_options.make(args, own)
    assert options.view_as(StandardOptions).runner == "FlinkRunner"
    assert options.view_as(FlinkRunnerOptions).flink_master == "h:1"
    assert options.view_as(beam_options.HeliographOptions).model == "denoise"


def test_what_help_says_is_what_the_library_does(archive, tmp_path):
    import inspect

    from transforms import codec, restore, shards
    from transforms.write import Encoding

    parser, _ = cli._parser()
    args = parser.parse_args(["restore", str(archive), str(tmp_path / "out")])
    assert args.batch_size is None
    assert Budget(BATCH_SIZE, args.batch_bytes, args.batch_pixels) == Budget()
    assert args.max_pixels == codec.DEFAULT_MAX_PIXELS
    assert args.quality == Encoding().quality
    assert args.tile == inspect.signature(restore.Restore).parameters["tile"].default
    formats = next(o for o in OPTIONS if o.name == "image_format").settings["choices"]
    assert {name.upper() for name in formats} == set(codec.FORMATS)
    assert (*shards.FORMATS, shards.LIST) == SHARDS
    assert (FOLDER, *WRITERS) == CONTAINERS
    written = (Path(__file__).parents[1] / "docs" / "shards.md").read_text("utf-8")
    for name, known in shards.FORMATS.items():
        assert f"| `{name}` |" in written
        assert all(f"`{extension}`" in written for extension in known.extensions[:1])
