#!/usr/bin/env python3
"""The Flex Template of Heliograph, made of its table of options.

python deploy/dataflow/template.py metadata > deploy/dataflow/metadata.json
python deploy/dataflow/template.py specification IMAGE > heliograph.json

The first is what a console shows and what Dataflow holds parameters to. The second is the template:
put it into a bucket, and run it from there.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.option import Option
from pipeline.options import OPTIONS, PACKAGES

COMMANDS = ("restore", "evaluate", "degrade", "convert")

# Options of these commands that are no parameters, and why.
LEFT_OUT = {
    "workers": "is of the local runner",
    "follow_symlinks": "object stores have no links",
    "contract": "is a file of the driver's machine: put it into the model's folder",
    "sign": "takes two values",
    "metrics_file": "is for a machine that is watched by Prometheus, and the launcher's is not",
    "dry_run": "starts nothing, which Dataflow takes for a failed launch",
    "no_wait": "is what the launcher says always",
    **dict.fromkeys(
        (
            *("max_failed", "max_quarantined", "min_psnr", "min_ssim", "at_least", "at_most"),
            *("baseline", "gate", "max_drift"),
        ),
        "is of who waits for the end",
    ),
}

# Extended regular expressions of POSIX, which is what Dataflow takes.
_STORES = "(gs|s3|azfs|hdfs)://[^/]+(/.*)?"
_MODEL = "([a-z][a-z0-9_]*|(gs|s3|azfs|hdfs)://[^,]+|/[^,]+)"
_NUMBER = "-?([0-9]+[.]?[0-9]*|[.][0-9]+)(/[0-9]+([.][0-9]+)?)?"
_NOT_NONE, _ANY = "[1-9][0-9]*", "(0|[1-9][0-9]*)"
_PACKAGE = f"({'|'.join(PACKAGES)})"
_GUARD = "[a-z]+=(none|[0-9]*[.]?[0-9]+)"

# Of options that are neither switches nor choices.
_FORMS = {
    "model": f"{_MODEL}(,{_MODEL})*",
    "signature": ".+",
    "image_input": ".+",
    "image_output": ".+",
    "mask_input": ".+",
    "mask_values": f"{_NUMBER},{_NUMBER}",
    "mask_fill": _NUMBER,
    "input_range": f"{_NUMBER},{_NUMBER}",
    "output_range": f"{_NUMBER},{_NUMBER}",
    "size": f"{_NOT_NONE},{_NOT_NONE}",
    "size_multiple": _NOT_NONE,
    "margin": _ANY,
    "masks": _STORES,
    "tile": "(3[2-9]|[4-9][0-9]|[1-9][0-9][0-9]+)",
    "threads": _NOT_NONE,
    "recipe": "[a-z][-a-zA-Z0-9_:=.,+() ]*",
    "seed": _ANY,
    "guard": f"(none|{_GUARD}(,{_GUARD})*)",
    "metrics": "[a-z0-9_]+(,[a-z0-9_]+)*",
    "lpips": f"({_STORES}|/.+)",
    "quality": "([1-9][0-9]?|100)",
    "image_column": ".+",
    "name_column": ".+",
    "max_pixels": _NOT_NONE,
    "max_bytes": _NOT_NONE,
    "max_members": _NOT_NONE,
    "record_timeout": _ANY,
    "batch_size": _NOT_NONE,
    "batch_bytes": _NOT_NONE,
    "batch_pixels": _NOT_NONE,
    "pictures": "([1-9]?[0-9]|100)",
    "operator": ".+",
    "package": f"{_PACKAGE}(,{_PACKAGE})*",
    "iiif_base": "https?://[^/?#@]+(/[^?#]*)?",
    "iiif_masters": "https?://[^/?#@]+(/[^?#]*)?",
    "only": ".+",
    "limit": _NOT_NONE,
}
_NUMBERS = (_NOT_NONE, _ANY, _FORMS["tile"], _FORMS["quality"], _FORMS["pictures"])

# What is chosen among for want of a driver that stays what it is: see the launcher.
_CHOICES = {"precision": ("float32", "bfloat16")}
_HELP = {
    "precision": "arithmetic of the model; bfloat16 is faster where the machine type's processors "
    "have it (default: float32)",
    "threads": "TensorFlow threads of each worker process, of which there is one per core "
    "(default: 1)",
}

# Options of Beam's that are worth a line in a console.
_BEAMS = {
    "sdk_container_image": (
        "[^[:space:]]+",
        "image of the workers (default: that of this template)",
    ),
    "number_of_worker_harness_threads": (
        _NOT_NONE,
        "batches at a time on each machine (default: one per core); fewer need less memory",
    ),
    "min_cpu_platform": (
        "(Intel|AMD|Ampere) .+",
        "the oldest processors to run on, such as Intel Ice Lake",
    ),
}


def metadata() -> dict[str, Any]:
    """Give what `google.cloud.dataflow.TemplateMetadata` has, as JSON has it."""
    return {
        "name": "Heliograph",
        "description": "Restores photographic archives with TensorFlow SavedModels, and measures "
        "it.",
        "streaming": False,
        "parameters": [*_places(), *_options(), *_beams()],
    }


def specification(image: str) -> dict[str, Any]:
    """Give a template, `google.cloud.dataflow.ContainerSpec`, whose launcher is in an image."""
    return {"image": image, "sdkInfo": {"language": "PYTHON"}, "metadata": metadata()}


def _places() -> Iterator[dict[str, Any]]:
    yield _parameter(
        "command", "what to do with the archive", **_choices(COMMANDS), isOptional=False
    )
    yield _parameter(
        "archive",
        "folder (searched recursively), glob, file, shard, list of images, or output of an earlier "
        "job, in a bucket",
        regexes=[f"^{_STORES}$"],
        isOptional=False,
    )
    yield _parameter(
        "output",
        "folder for the results, in a bucket",
        regexes=["^gs://[a-z0-9][-_.a-z0-9]+[a-z0-9](/.*)?$"],
        paramType="GCS_WRITE_FOLDER",
        isOptional=False,
    )


def _options() -> Iterator[dict[str, Any]]:
    for one in OPTIONS:
        commands = [name for name in COMMANDS if name in one.commands]
        if not commands or one.name in LEFT_OUT:
            continue
        conditions = {}
        if len(commands) < len(COMMANDS):
            conditions = {"parentName": "command", "parentTriggerValues": commands}
        yield _parameter(one.name, _help(one), **_form(one), **conditions)


def _beams() -> Iterator[dict[str, Any]]:
    for name, (regex, said) in _BEAMS.items():
        kind = {"paramType": "NUMBER"} if regex in _NUMBERS else {}
        yield _parameter(name, said, regexes=[f"^{regex}$"], **kind)


def _parameter(name: str, said: str, **more: Any) -> dict[str, Any]:
    label = name.replace("_", " ").capitalize()
    text = f"{said[0].upper()}{said[1:]}."
    return {
        "name": name,
        "label": label,
        "helpText": text,
        "paramType": "TEXT",
        "isOptional": True,
        **more,
    }


def _form(one: Option) -> Mapping[str, Any]:
    if one.settings.get("action") == "store_true":
        return {"paramType": "BOOLEAN", "regexes": ["^(true|false)$"]}
    choices = _CHOICES.get(one.name) or one.settings.get("choices")
    if choices:
        return _choices(choices)
    regex = _FORMS[one.name]  # where this fails, say what the values of a new option look like
    kind = {"paramType": "NUMBER"} if regex in _NUMBERS else {}
    return {**kind, "regexes": [f"^{regex}$"]}


def _choices(values: tuple[str, ...]) -> dict[str, Any]:
    return {
        "paramType": "ENUM",
        "enumOptions": [{"value": value, "label": value} for value in values],
        "regexes": [f"^({'|'.join(values)})$"],
    }


def _help(one: Option) -> str:
    return _HELP.get(one.name) or one.settings["help"] % one.settings


def main() -> None:
    """Print one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("metadata", help="what a console shows of the parameters")
    spec = kinds.add_parser("specification", help="the template itself")
    spec.add_argument("image", help="that the launcher is in: a digest, or a tag that stays")
    args = parser.parse_args()
    made = metadata() if args.kind == "metadata" else specification(args.image)
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
