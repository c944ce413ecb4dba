"""The model card that a training writes of itself."""

import importlib.metadata
import shlex
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.networks.table import Network
    from pipeline.checkpoint import Progress


def write(
    name: str,
    network: "Network",
    facts: Mapping[str, Any],
    progress: "Progress",
    left_out: Counter[str],
    args: Namespace,
) -> str:
    """Write a card in Markdown.

    Args:
        name: of the model.
        network: what it is.
        facts: what decided the training.
        progress: how it went.
        left_out: images that were not trained on, by the reason.
        args: of the command line.
    """
    training, validation = facts["images"]
    choices = {name: value for name, value in facts["choices"].items() if value}
    chosen = ", ".join(f"{choice} {value}" for choice, value in choices.items())
    ended = progress.best_step if args.patience else progress.step
    lines = [
        f"# {name}",
        "",
        f"A {facts['network']}: {network.summary}.",
        "",
        f"After {network.source}. {facts['parameters']:,} parameters; {chosen}. "
        f"Trained to undo `{facts['recipe']}`.",
        "",
        "## Results",
        f"Means over the middles of {validation} images that were held out by a digest of their "
        "keys, damaged as in training:",
        "",
        "| step | PSNR going in | PSNR | SSIM |",
        "|---|---|---|---|",
        *(_row(scores) for scores in _some(progress.history, ended)),
        "",
        f"The weights are those of step {ended}.",
        "",
        "## How it was made",
        f"    {_command(args)}",
        "",
        f"- **Data**: {training:,} images to train on. SHA-256 of their keys and digests: "
        f"`{facts['data']}`. {_left_out(left_out)}What rights there are in them is not known to "
        "the program that wrote this: say so here before you publish the model.",
        f"- **Crops**: {facts['choices']['side']} pixels a side, {facts['batch']} a step, "
        f"varied by {', '.join(facts['augment']) or 'nothing'}.",
        f"- **Training**: {progress.step:,} steps; loss {facts['loss']}; {facts['optimizer']}, "
        f"rate {facts['rate']:g}, {facts['schedule']} after {facts['warmup']} steps of warming up, "
        f"weight decay {facts['weight_decay']:g}; seed {facts['seed']}; {facts['precision']}; "
        f"{_duration(progress.seconds)}.",
        *([f"- **Weights to start from**: `{args.initial}`"] if args.initial else []),
        f"- **Versions**: {_versions()}.",
        "",
        "## What it is not for",
        "It has learnt to undo what is named above, on images like those it was trained on. On "
        "other damage, and on other images, measure it first with `heliograph evaluate`.",
    ]
    return "\n".join(lines) + "\n"


def _some(history: list[dict[str, float]], ended: int) -> list[dict[str, float]]:
    """Choose at most ten validations, evenly, and the one whose weights are kept."""
    stride = -(-len(history) // 10) or 1
    last = len(history) - 1
    return [
        scores
        for place, scores in enumerate(history)
        if place % stride == last % stride or scores["step"] == ended
    ]


def _row(scores: Mapping[str, float]) -> str:
    return (
        f"| {scores['step']:,} | {scores['psnr_degraded']:.2f} dB | {scores['psnr']:.2f} dB | "
        f"{scores['ssim']:.4f} |"
    )


def _command(args: Namespace) -> str:
    """Say the command again, but for where its files are."""
    said = [word for word in args.said if word not in (*args.archive, args.savedmodel)]
    return shlex.join(["heliograph", "train", "ARCHIVE", "SAVEDMODEL", *said[1:]])


def _left_out(left_out: Counter[str]) -> str:
    if not left_out:
        return ""
    return "Left out: " + ", ".join(f"{count} {why}" for why, count in left_out.items()) + ". "


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def _versions() -> str:
    packages = ("heliograph", "keras", "tensorflow", "numpy")
    found = [f"Python {'.'.join(map(str, sys.version_info[:3]))}"]
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)
