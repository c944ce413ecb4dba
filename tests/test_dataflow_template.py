"""The Flex Template for Dataflow: its parameters are our options, and Google reads it as it is
meant.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import apache_beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from google.cloud import dataflow as api

from pipeline import cli
from pipeline.worker import ONE_THREAD
from transforms.degradations import DEGRADATIONS

DEPLOY = Path(__file__).parents[1] / "deploy" / "dataflow"
IMAGE = "europe-west1-docker.pkg.dev/archive-1/images/heliograph:1"


@pytest.fixture(scope="module")
def template():
    spec = importlib.util.spec_from_file_location("deploy_template", DEPLOY / "template.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parameters(template):
    return {one["name"]: one for one in template.metadata()["parameters"]}


def taken(parameter, *values):
    """Give those of some values that a parameter takes, by what POSIX calls extended regular
    expressions, which is what Dataflow goes by.
    """
    (regex,) = parameter["regexes"]
    lines = "".join(f"{value}\n" for value in values)
    words = ["grep", "-E", "--", regex]
    done = subprocess.run(words, input=lines, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def test_the_metadata_is_made_of_the_table_of_options(template):
    kept = (DEPLOY / "metadata.json").read_text()
    made = [sys.executable, str(DEPLOY / "template.py"), "metadata"]
    done = subprocess.run(made, capture_output=True, text=True, check=True)
    assert kept == done.stdout, "run make docs"


def test_every_option_is_a_parameter_or_left_out_for_a_reason(template, parameters):
    _, commands = cli._parser()
    known = {}
    for name in template.COMMANDS:
        for action in commands[name]._actions:
            if action.option_strings and action.dest not in ("help", "verbose", "list"):
                known.setdefault(action.dest, set()).add(name)
    beams = {"sdk_container_image", "number_of_worker_harness_threads", "min_cpu_platform"}
    assert set(parameters) - {"command", "archive", "output"} - beams == (
        set(known) - set(template.LEFT_OUT)
    )
    assert set(template.LEFT_OUT) <= set(known)
    assert all(template.LEFT_OUT.values())
    for name in set(known) & set(parameters):
        said = parameters[name].get("parentTriggerValues", template.COMMANDS)
        assert set(said) == known[name], name
    assert beams <= set(PipelineOptions([]).get_all_options())


def test_google_reads_the_template_as_it_is_meant(template, parameters):
    """By Google's own message types, which know every field and every type of parameter."""
    words = [sys.executable, str(DEPLOY / "template.py"), "specification", IMAGE]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    spec = api.ContainerSpec.from_json(done.stdout)  # which refuses what it does not know
    assert spec.image == IMAGE
    assert spec.sdk_info.language == api.SDKInfo.Language.PYTHON
    assert not spec.metadata.streaming
    assert [one.name for one in spec.metadata.parameters] == list(parameters)
    kinds = api.ParameterType
    for one in spec.metadata.parameters:
        assert one.label
        assert one.help_text.endswith(".")
        assert one.regexes
        assert (one.param_type == kinds.ENUM) == bool(one.enum_options)
        if one.param_type == kinds.BOOLEAN:
            assert taken(parameters[one.name], "true", "false", "yes") == ["true", "false"]
        choices = [choice.value for choice in one.enum_options]
        assert taken(parameters[one.name], *choices) == choices
    required = [one.name for one in spec.metadata.parameters if not one.is_optional]
    assert required == ["command", "archive", "output"]


# Values that one option or the other takes.
SAMPLES = (
    *("0", "1", "5", "31", "32", "100", "101", "-1", "1.5", "x", "1e3", ""),
    *("bagit", "bagit,iiif", "iiif,premis,bagit", "zip", "bagit,"),
    *("https://a.example/b", "http://a.example", "https://u:p@a.example", "https://a.example?b"),
    *("ftp://a.example", "https://a.example/b#c"),
    *("jpeg", "png", "JPEG", "float32", "auto", "tfrecord", "folder", "failed", "NHWC", "RGB"),
)


def test_the_regexes_take_what_the_parser_takes(template, parameters):
    """Of every option that the parser holds to a form: what passes in a console must not fail in
    the launcher, nor the other way round.
    """
    _, commands = cli._parser()
    actions = {
        action.dest: action for name in template.COMMANDS for action in commands[name]._actions
    }
    held = {
        name: action
        for name, action in actions.items()
        if name in parameters and (action.type is not None or action.choices is not None)
    }
    assert len(held) > 20
    for name, action in held.items():
        # What the processor of the launcher has is nothing to go by: see there.
        values = [value for value in SAMPLES if (name, value) != ("precision", "auto")]
        passed = [value for value in values if passes(action, value)]
        assert taken(parameters[name], *values) == passed, name


def passes(action, value):
    try:
        read = action.type(value) if action.type else value
    except (argparse.ArgumentTypeError, ValueError):
        return False
    return action.choices is None or read in action.choices


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("archive", ["gs://a/b", "gs://a/b/**/*.tif", "s3://a"], ["/home/a", "a", "gs://", "C:/a"]),
        ("output", ["gs://bucket-1/a b", "gs://bucket"], ["s3://a/b", "gs://A/b", "out", "gs://x"]),
        (
            "model",
            ["denoise", "denoise,colorize", "gs://a/m", "/models/m"],
            ["", "a b", "x,", "./m"],
        ),
        ("masks", ["gs://a/masks"], ["masks"]),
        ("lpips", ["gs://a/lpips", "/models/lpips"], ["lpips"]),
        (
            "recipe",
            [
                *("jpeg:3", "jpeg:3+gaussian_noise:sigma=25", "oneof(scratches:2,fade:3+dust:2)"),
                *("random(2,severity=1-3)", "gaussian_noise:1-5, jpeg:1-5", "low_resolution_copy"),
            ],
            ["", ":3", "jpeg;rm", "$(jpeg)", "Jpeg\\"],
        ),
        ("guard", ["none", "changed=none", "changed=0.5,seams=.1"], ["changed", "changed=much"]),
        ("metrics", ["all", "default", "ms_ssim,ciede2000"], ["", "all,", "PSNR"]),
        ("input_range", ["0,1", "-1,1", "0,255"], ["1", "a,b", "0;1"]),
        ("output_range", ["-128/110,128/110"], ["128"]),
        ("mask_values", ["0,1", "-1,1.0"], ["0"]),
        ("mask_fill", ["0.5", "-1", ".5"], ["grey"]),
        ("size", ["256,256"], ["0,256", "256"]),
        ("sdk_container_image", [IMAGE, "a.example/b@sha256:0"], ["a b", ""]),
        ("min_cpu_platform", ["Intel Ice Lake", "AMD Milan"], ["Ice Lake"]),
        ("only", ["album/*.tif"], [""]),
    ],
)
def test_the_regexes_take_our_examples_and_no_nonsense(parameters, name, good, bad):
    assert taken(parameters[name], *good, *bad) == good


def test_recipes_of_all_degradations_are_taken(parameters):
    recipes = [f"{name}:3" for name in DEGRADATIONS]
    assert taken(parameters["recipe"], *recipes) == recipes


def test_the_image_is_of_one_kind_for_launcher_and_workers():
    text = (DEPLOY / "Dockerfile").read_text()
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).splitlines()
    stages = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert stages[-1] == f"apache/beam_python3.11_sdk:{apache_beam.__version__}"
    assert "/python311-template-launcher-base:" in stages[0]
    # What Google's launcher runs is there, and is one file; the rest is installed.
    settings = dict(
        pair.split("=", 1) for line in lines if line.startswith("ENV") for pair in line.split()[1:]
    )
    copies = [
        line.split()[-2:] for line in lines if line.startswith("COPY") and "--from" not in line
    ]
    started = {target: source for source, target in copies}[
        settings["FLEX_TEMPLATE_PYTHON_PY_FILE"]
    ]
    assert (DEPLOY.parents[1] / started).samefile(DEPLOY / "launcher.py")
    assert settings.keys() >= set(ONE_THREAD)
    # By which the launcher names the image of the workers.
    assert settings["HELIOGRAPH_SDK_IMAGE"] == "$IMAGE"
    launcher = "/opt/google/dataflow/python_template_launcher"
    assert f"COPY --from=launcher {launcher} {launcher}" in lines
    assert 'ENTRYPOINT ["/opt/apache/beam/boot"]' in lines
