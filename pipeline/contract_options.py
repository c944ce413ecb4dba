"""The options that say what a SavedModel takes and gives: see `models.description`."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.option import Option, option, whole

MODEL = ("restore", "evaluate", "demo")
CONTRACT = (*MODEL, "models")


def _said(*flags: str, **settings: Any) -> Option:
    """Make an option that says a field of the model's contract: see `models.description`."""
    return option(*flags, commands=CONTRACT, **settings)


# The options that say fields of a contract, by the field.
SAID: Mapping[str, Option] = {
    "signature": _said("--signature", metavar="KEY", help="which signature of the model to serve"),
    "image_input": _said("--image_input", metavar="NAME", help="input that takes the image"),
    "image_output": _said("--image_output", metavar="NAME", help="output that is the image"),
    "mask_input": _said(
        "--mask_input", metavar="NAME", help="input that takes the mask of missing pixels"
    ),
    "mask_values": _said(
        "--mask_values",
        metavar="THERE,MISSING",
        help="values in the mask of a pixel that is there and of one that is missing, such as 0,1",
    ),
    "mask_fill": _said(
        "--mask_fill",
        metavar="VALUE",
        help="value of missing pixels in the image, in its range (default: as they are)",
    ),
    "layout": _said(
        "--layout", choices=("NHWC", "NCHW"), help="whether the model's channels are last or first"
    ),
    "input_space": _said(
        "--input_space", choices=("RGB", "gray", "L"), help="colour space of the model's input"
    ),
    "output_space": _said(
        "--output_space", choices=("RGB", "gray", "ab"), help="colour space of its output"
    ),
    "input_range": _said(
        "--input_range",
        metavar="LOW,HIGH",
        help="values of black and white in the input, such as 0,1 or -1,1 or 0,255; of L, of L* 0 "
        "and 100",
    ),
    "output_range": _said(
        "--output_range",
        metavar="LOW,HIGH",
        help="the same of the output; of ab, of -128 and 128, such as -128/110,128/110",
    ),
    "output": _said(
        "--output_kind",
        choices=("image", "residual"),
        help="whether the output is the image, or what to add to the input",
    ),
    "keep_luminance": _said(
        "--keep_luminance",
        action="store_true",
        default=None,
        help="take only the chroma of an RGB output, and join it to the master's own luminance",
    ),
    "size": _said(
        "--size", metavar="HEIGHT,WIDTH", help="the only size that the model takes, if it has one"
    ),
    "multiple": _said(
        "--size_multiple",
        type=whole(1),
        metavar="N",
        help="height and width must be multiples of this",
    ),
    "margin": _said(
        "--margin",
        type=whole(0),
        metavar="PIXELS",
        help="how far from an edge of its input the model's output is untouched by it (default: 0)",
    ),
}


def said_of_contract(args: argparse.Namespace) -> dict[str, Any]:
    """Give what was said of the model's contract, by its fields; None is not said."""
    return {field: getattr(args, option.name, None) for field, option in SAID.items()}


def with_pairs_joined(argv: Iterable[str]) -> list[str]:
    """Join `--input_range -1,1` to `--input_range=-1,1`: argparse takes -1,1 for an option."""
    pairs = {flag for option in SAID.values() for flag in option.flags if "," in option.metavar}
    result: list[str] = []
    for argument in argv:
        if result and result[-1] in pairs:
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result
