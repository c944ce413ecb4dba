"""What a training is begun with: what was asked, checked, and the images it learns from."""

import dataclasses
import logging
import os
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras

from models.losses import SSIM_WINDOW, parse_loss
from models.networks.table import NETWORKS, Built, Choices, Network
from models.saved_model import resolve_precision
from pipeline.archive import find_sources
from pipeline.environment import cores
from pipeline.examples import AUGMENTATIONS, ZOOM, Example, Sampler, gather, split
from transforms.recipe import Recipe, parse_recipe
from transforms.shards import Columns

log = logging.getLogger("heliograph")

# The files of the folder that a training works in.
CHECKPOINT, BEST, ORIGINALS, LOGS = "checkpoint.npz", "best.npz", "originals.bin", "logs"


class TrainingError(ValueError):
    """A training that cannot be begun, and what to do."""


class StoppedError(RuntimeError):
    """A training that cannot go on, what is kept of it, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What was asked, checked: nothing is written yet.

    Attributes:
        network: of the table.
        choices: of the network.
        target: the SavedModel's folder.
        work: the folder for checkpoints, logs and decoded images.
        precision: float32 or bfloat16.
        recipe: what to learn to undo.
        augment: how crops are varied.
        loss: what is minimised, as it is written.
    """

    network: Network
    choices: Choices
    target: Path
    work: Path
    precision: Literal["float32", "bfloat16"]
    recipe: Recipe
    augment: tuple[str, ...]
    loss: str


@dataclass(frozen=True, kw_only=True)
class Images:
    """What a training learns from.

    Attributes:
        sampler: makes its batches.
        validation: what it is scored on, and never trained on.
        left_out: how many images are neither, by the reason.
    """

    sampler: Sampler
    validation: list[Example]
    left_out: Counter[str]


def check(args: Namespace) -> Setup:
    """Make sure that what the command line says can be done, and seed all randomness.

    Raises:
        TrainingError, LossError, RecipeError: it cannot.
    """
    network = NETWORKS[args.network]
    target = _target(args)
    setup = Setup(
        network=network,
        choices=Choices(
            side=args.crop or network.side,
            colour_space=args.colour_space,
            variational=args.variational,
            classification=args.classification,
            masked=args.masked,
        ),
        target=target,
        work=Path(args.work or f"{target}.training"),
        precision=resolve_precision(args.precision),
        recipe=parse_recipe(args.recipe or network.recipe),
        augment=_augment(args.augment, network.augment),
        loss=args.loss or network.loss,
    )
    parse_loss(setup.loss)
    return setup


def check_loss(setup: Setup, built: Built, said: str | None) -> None:
    """Make sure that the loss is one which the network can be trained by.

    Args:
        setup: what was asked.
        built: the network.
        said: the loss on the command line, if there is one.

    Raises:
        TrainingError: it would not be used, or mean nothing.
    """
    reason = ""
    if said and (built.adversary is not None or setup.choices.classification):
        reason = "the network is trained by losses of its own: leave --loss out"
    elif "ciede2000" in setup.loss and built.space != "ab":
        reason = "ciede2000 is for networks that give a*b*"
    elif "ssim" in setup.loss and setup.choices.side < SSIM_WINDOW:
        reason = f"ssim takes crops of {SSIM_WINDOW} pixels a side or more"
    if reason:
        raise TrainingError(f"--loss {setup.loss} is not for {built.model.name}: {reason}")


def start_tensorflow(threads: int | None) -> None:
    """Start TensorFlow for a training, which is done once in a process.

    Args:
        threads: of each operation; None for one per core.

    Raises:
        RuntimeError: it has started.
    """
    from models.saved_model import import_tensorflow

    tf = import_tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(threads or cores())
    # Where a tensor has three gradients, TensorFlow adds first to the one whose memory is free by
    # then, which is chance among operations that run side by side: a resumed training would end
    # with other weights. One at a time, each on all threads, is no slower.
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.constant(0)


def prepare(setup: Setup, args: Namespace) -> None:
    """Seed everything, and set how Keras' backend computes."""
    keras.utils.set_random_seed(args.seed)
    if keras.config.backend() != "tensorflow":
        keras.config.set_dtype_policy(
            "mixed_bfloat16" if setup.precision == "bfloat16" else "float32"
        )
        return
    with suppress(RuntimeError):  # TensorFlow has started: the first in the process decided
        start_tensorflow(args.threads)
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options(
        {"auto_mixed_precision_onednn_bfloat16": setup.precision == "bfloat16"}
    )


@contextmanager
def open_work(setup: Setup, args: Namespace) -> Iterator[None]:
    """Make the folder that is worked in, and leave nothing in it that is of no more use.

    Raises:
        TrainingError: it cannot be made, or an earlier training is in it.
    """
    if (setup.work / CHECKPOINT).exists() and not (args.resume or args.overwrite):
        raise TrainingError(
            f"{setup.work} holds an earlier training: say --resume to go on with it, or "
            "--overwrite to begin anew"
        )
    try:
        setup.work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot work in {setup.work}: {error.strerror}") from error
    try:
        yield
    finally:
        (setup.work / ORIGINALS).unlink(missing_ok=True)
        with suppress(OSError):  # there is something in it
            setup.work.rmdir()


def clear_work(setup: Setup) -> None:
    """Remove what an earlier training left, and nothing else: the folder may be of a person's."""
    earlier = (setup.work / CHECKPOINT, setup.work / BEST, *(setup.work / LOGS).glob("events.*"))
    for path in earlier:
        path.unlink(missing_ok=True)


def find_images(setup: Setup, built: Built, args: Namespace) -> Images:
    """Decode the images into the folder that is worked in, and part them.

    Raises:
        TrainingError, ArchiveError: too few can be trained on, or they cannot be stored.
    """
    path = setup.work / ORIGINALS
    columns = Columns(args.image_column, args.name_column)
    sources, other = find_sources(args.archive, args.format, columns)
    left_out = Counter({f"{kind} files": count for kind, count in other.items()})
    try:
        originals, reasons = gather(
            sources,
            path,
            columns=columns,
            max_pixels=args.max_pixels,
            least=setup.choices.side,
            in_colour=built.contract.input_space == "L",
        )
    except OSError as error:
        raise TrainingError(
            f"cannot store the decoded images in {path} ({error.strerror}): make room, or name "
            "another folder with --work"
        ) from error
    left_out += reasons
    training, held_out, twins = split(originals, args.validation_share)
    if twins:
        left_out["the same as a validation image"] += twins
    if len(training) < 2 or not held_out:
        told = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise TrainingError(
            f"too few images: {len(training)} to train on and {len(held_out)} to validate with "
            f"of {len(sources)} in {', '.join(args.archive)}, where 2 and 1 are the least"
            + (f"; left out: {told}" if told else "")
        )
    for reason, count in left_out.items():
        log.warning("left out: %d %s", count, reason)
    sampler = Sampler(
        originals=originals,
        training=training,
        recipe=setup.recipe,
        seed=args.seed,
        count=args.batch,
        side=setup.choices.side,
        augment=setup.augment,
        contract=built.contract,
        space=built.space,
        masked=setup.choices.masked,
    )
    log.info("%d images to train on, %d held out to validate with", len(training), len(held_out))
    validation = sampler.validation(held_out[: args.validation_images])
    return Images(sampler=sampler, validation=validation, left_out=left_out)


def facts_of(setup: Setup, built: Built, images: Images, args: Namespace) -> dict[str, Any]:
    """Give what decides a training, for its checkpoints and its card."""
    return {
        "network": args.network,
        "choices": dataclasses.asdict(setup.choices),
        "parameters": built.model.count_params(),
        "recipe": images.sampler.recipe.canonical,
        "augment": list(images.sampler.augment),
        "loss": _loss(setup, built),
        "optimizer": args.optimizer,
        "rate": args.rate,
        "schedule": args.schedule,
        "warmup": args.warmup,
        "weight_decay": args.weight_decay,
        "clip_norm": args.clip_norm,
        "batch": args.batch,
        "steps": args.steps,
        "every": args.every,
        "patience": args.patience,
        "seed": args.seed,
        "precision": setup.precision,
        "initial": args.initial,
        "freeze_encoder": args.freeze_encoder,
        "validation_share": args.validation_share,
        "data": images.sampler.originals.digest,
        "images": [len(images.sampler.training), len(images.validation)],
    }


def _loss(setup: Setup, built: Built) -> str:
    if setup.choices.classification:
        return "rebalanced"
    return f"{setup.loss} and adversarial" if built.adversary is not None else setup.loss


def _target(args: Namespace) -> Path:
    if "://" in args.savedmodel:
        raise TrainingError(
            f"{args.savedmodel} is elsewhere: train to a folder of this machine, then copy it"
        )
    target = Path(os.path.abspath(args.savedmodel))
    if target.exists() and not target.is_dir():
        raise TrainingError(f"{target} is a file: a SavedModel is a folder; choose another name")
    if target.exists() and not (args.overwrite or args.resume):
        raise TrainingError(f"{target} is there already: choose another name, or say --overwrite")
    if target.exists() and not (target / "saved_model.pb").exists() and any(target.iterdir()):
        raise TrainingError(f"{target} is no SavedModel, and is not replaced: choose another name")
    return target


def _augment(said: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    if said is None:
        return default
    names = tuple(name for name in said.replace(" ", "").split(",") if name and name != "none")
    known = (ZOOM, *AUGMENTATIONS)
    if unknown := [name for name in names if name not in known]:
        raise TrainingError(
            f"--augment knows {', '.join(known)}, joined by commas, or none; not {unknown[0]!r}"
        )
    return names
