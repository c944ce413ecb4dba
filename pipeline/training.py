"""Train a network of the table on an archive, and export it as a SavedModel."""

import dataclasses
import json
import logging
import math
import os
import shutil
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.export import export, served, weights_of
from models.learners import Adversarial, Supervised
from models.losses import LossError, Rebalanced, parse_loss
from models.networks.autoencoders import encoder
from models.networks.colorizers import gamut_bins
from models.networks.table import NETWORKS, Choices, NetworkError, build
from models.optimizers import Schedule, make_optimizer
from models.saved_model import resolve_precision
from pipeline import checkpoint, model_card
from pipeline.archive import ArchiveError, find_sources
from pipeline.checkpoint import CheckpointError
from pipeline.contact_sheet import Row, contact_sheet
from pipeline.examples import (
    AUGMENTATIONS,
    ZOOM,
    Example,
    Inputs,
    Sampler,
    WorkerError,
    batches,
    gather,
    split,
)
from pipeline.training_log import TrainingLog
from transforms import colour, storage
from transforms.metrics import Pair, psnr_rgb, ssim
from transforms.recipe import RecipeError, parse_recipe
from transforms.restore import restore_images
from transforms.shards import Columns

log = logging.getLogger("heliograph")

CHECKPOINT, BEST, ORIGINALS, LOGS = "checkpoint.npz", "best.npz", "originals.bin", "logs"

_SHOWN = 8  # rows of the side-by-side picture


class TrainingError(ValueError):
    """A training that cannot be begun or gone on with, and what to do."""


class DivergedError(RuntimeError):
    """A training whose loss is no longer a number."""


@dataclass
class Progress:
    """How far a training is, as its checkpoints hold it.

    Attributes:
        step: steps that are done.
        seconds: that they took.
        best: the highest validation PSNR so far, in dB.
        best_step: where it was.
        history: a line of scores for each validation.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


class Crops(keras.utils.PyDataset):
    """The batches of a training, made in worker processes.

    Iterating over it, as `Trainer` does, starts processes once and without a copy of TensorFlow in
    them. (`keras.Model.fit` forks its own, with whatever TensorFlow's threads are at, anew for
    every epoch.)

    Args:
        sampler: makes the batches.
        start: the first step.
        stop: the step after the last.
        workers: processes; 0 makes the batches in this one.
    """

    def __init__(self, sampler: Sampler, start: int, stop: int, workers: int = 0) -> None:
        super().__init__()
        self.sampler, self.start, self.stop, self.processes = sampler, start, stop, workers

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> tuple[Inputs, np.ndarray]:
        return self.sampler.batch(self.start + index)

    def __iter__(self) -> Iterator[tuple[Inputs, np.ndarray]]:
        if not self.processes:
            return (self[index] for index in range(len(self)))
        return batches(self.sampler, self.start, self.stop, self.processes)


def train(args: Namespace) -> Path:
    """Train as the command line says, and give the SavedModel's folder.

    Raises:
        TrainingError: it cannot be begun or gone on with as asked.
        DivergedError: the loss is NaN or infinite.
    """
    try:
        return Trainer(args).run()
    except (
        ArchiveError,
        CheckpointError,
        LossError,
        NetworkError,
        RecipeError,
        WorkerError,
        storage.StorageError,
    ) as error:
        raise TrainingError(str(error)) from error


class Trainer:
    """One training: checked, begun or resumed, run, exported and described.

    Args:
        args: of the command line.

    Raises:
        TrainingError, NetworkError, LossError, RecipeError, ArchiveError, CheckpointError: what was
            asked cannot be done; nothing has been written but decoded images.
    """

    def __init__(self, args: Namespace) -> None:
        self.args = args
        self.network = NETWORKS[args.network]
        self.target = _target(args)
        self.work = Path(args.work or f"{self.target}.training")
        self.precision = resolve_precision(args.precision)
        side = args.crop or self.network.side
        self.choices = Choices(
            side=side,
            colour_space=args.colour_space,
            variational=args.variational,
            classification=args.classification,
            masked=args.masked,
        )
        recipe = parse_recipe(args.recipe or self.network.recipe)
        augment = _augment(args.augment, self.network.augment)
        parse_loss(args.loss or self.network.loss)
        _prepare(self.precision, args)
        self.built = build(args.network, self.choices)
        self._check_work()
        self.sampler, self.validation, self.left_out = self._gather(recipe, augment)
        self.facts = self._facts()
        self.learner = self._learner()
        self.serve = served(self.built.model, self.built.contract, self.built.space)
        self.progress = Progress()

    def run(self) -> Path:
        """Train, export, describe."""
        args = self.args
        try:
            if args.resume:
                self._resume()
            elif args.initial:
                self._start_from(args.initial)
            self._train()
        finally:
            (self.work / ORIGINALS).unlink(missing_ok=True)
        if args.patience and self.progress.best_step:
            arrays, _ = checkpoint.read(self.work / BEST)
            _assign(self.built.model.variables, arrays, self.work / BEST)
        return self._finish()

    def _train(self) -> None:
        """Take the steps that are left."""
        args = self.args
        workers = _cores() if args.workers is None else args.workers
        crops = Crops(self.sampler, self.progress.step, args.steps, workers)
        with TrainingLog(self.work / LOGS, args.steps, self.progress.step) as told:
            began = time.monotonic() - self.progress.seconds
            for inputs, truth in crops:
                losses = self.learner.step(inputs, truth)
                self.progress.step += 1
                self._require_finite(losses)
                told.step(self.progress.step, losses)
                self.progress.seconds = time.monotonic() - began
                if self.progress.step % args.every == 0 or self.progress.step == args.steps:
                    scores = self._validate()
                    told.validated(self.progress.step, scores)
                    self._keep()
                    if self._has_stopped_gaining():
                        log.info("stopped early: no gain in the last %d validations", args.patience)
                        break

    def _check_work(self) -> None:
        """Make the folder that is worked in; an earlier training's is gone on with or replaced."""
        before = self.work / CHECKPOINT
        if before.exists() and not (self.args.resume or self.args.overwrite):
            raise TrainingError(
                f"{self.work} holds an earlier training: say --resume to go on with it, or "
                "--overwrite to begin anew"
            )
        try:
            if self.args.overwrite and not self.args.resume:
                shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"cannot work in {self.work}: {error.strerror}") from error

    def _gather(self, recipe, augment) -> tuple[Sampler, list[Example], Counter[str]]:
        args, path = self.args, self.work / ORIGINALS
        columns = Columns(args.image_column, args.name_column)
        sources, other = find_sources(args.archive, args.format, columns)
        left_out = Counter({f"{kind} files": count for kind, count in other.items()})
        try:
            originals, reasons = gather(
                sources,
                path,
                columns=columns,
                max_pixels=args.max_pixels,
                least=self.choices.side,
                in_colour=self.built.contract.input_space == "L",
            )
        except OSError as error:
            path.unlink(missing_ok=True)
            raise TrainingError(
                f"cannot store the decoded images in {path} ({error.strerror}): make room, or name "
                "another folder with --work"
            ) from error
        left_out += reasons
        training, held_out, twins = split(originals, args.validation_share)
        if twins:
            left_out["the same as a validation image"] += twins
        if len(training) < 2 or not held_out:
            path.unlink(missing_ok=True)
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
            recipe=recipe,
            seed=args.seed,
            count=args.batch,
            side=self.choices.side,
            augment=augment,
            contract=self.built.contract,
            space=self.built.space,
            masked=self.choices.masked,
        )
        log.info(
            "%d images to train on, %d held out to validate with", len(training), len(held_out)
        )
        return sampler, sampler.validation(held_out[: args.validation_images]), left_out

    def _facts(self) -> dict[str, Any]:
        """Give what decides a training, for its checkpoints and its card."""
        args = self.args
        return {
            "network": args.network,
            "choices": dataclasses.asdict(self.choices),
            "parameters": self.built.model.count_params(),
            "recipe": self.sampler.recipe.canonical,
            "augment": list(self.sampler.augment),
            "loss": "rebalanced" if self.choices.classification else args.loss or self.network.loss,
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
            "precision": self.precision,
            "initial": args.initial,
            "freeze_encoder": args.freeze_encoder,
            "validation_share": args.validation_share,
            "data": self.sampler.originals.digest,
            "images": [len(self.sampler.training), len(self.validation)],
        }

    def _learner(self) -> Supervised | Adversarial:
        args, built = self.args, self.built
        if args.freeze_encoder:
            encoder(built.model).trainable = False
        rate = Schedule(args.schedule, args.rate, args.steps, args.warmup)

        def optimizer(**settings: float) -> keras.optimizers.Optimizer:
            return make_optimizer(
                args.optimizer,
                rate,
                weight_decay=args.weight_decay,
                clip_norm=args.clip_norm,
                **settings,
            )

        if built.adversary is not None:
            # Half the usual momentum, as the authors of pix2pix have it: the goal moves.
            settings = {"beta_1": 0.5} if args.optimizer.startswith("adam") else {}
            pair = optimizer(**settings), optimizer(**settings)
            return Adversarial(built.model, built.adversary, pair)
        loss: Any = parse_loss(args.loss or self.network.loss)
        if self.choices.classification:
            loss = self._rebalanced()
        return Supervised(built.learner, optimizer(), loss)

    def _rebalanced(self) -> Rebalanced:
        """Count how common colours are in the first batches."""
        bins, (low, high) = gamut_bins(), self.built.contract.output_range
        counts = np.zeros(len(bins), np.int64)
        for step in range(min(32, self.args.steps)):
            _, truth = self.sampler.batch(step)
            chroma = (truth[:, ::4, ::4] - low) * (256 / (high - low)) - 128
            counts += Rebalanced.count(bins, chroma)
        return Rebalanced(bins, counts)

    def _require_finite(self, losses: dict[str, float]) -> None:
        if all(math.isfinite(loss) for loss in losses.values()):
            return
        kept = self.work / CHECKPOINT
        last = self.progress.step // self.args.every * self.args.every
        if last == self.progress.step:
            last -= self.args.every
        state = f"the checkpoint of step {last} is in {kept}" if last > 0 else "there is none yet"
        raise DivergedError(
            f"the loss is no number any more at step {self.progress.step} ({losses}); of good "
            f"checkpoints, {state}. Lower --rate, or raise --warmup or --clip_norm"
        )

    def _restored(self, examples: list[Example]) -> list[np.ndarray]:
        """Restore as `heliograph restore` would."""
        masks = [example.mask > 0 for example in examples] if self.choices.masked else None
        images = [example.image for example in examples]
        return restore_images(images, self.serve, self.built.contract, masks=masks)

    def _validate(self) -> dict[str, float]:
        """Give mean scores of the validation images, and keep them in the history."""
        scores: dict[str, list[float | None]] = {"psnr": [], "psnr_degraded": [], "ssim": []}
        for start in range(0, len(self.validation), 16):
            examples = self.validation[start : start + 16]
            for group in _of_one_shape(examples):
                for example, restored in zip(group, self._restored(group), strict=True):
                    reference, image = example.reference, _like(example.image, example.reference)
                    restored = _like(restored, reference)
                    pair = Pair(restored, reference)
                    scores["psnr"].append(psnr_rgb(pair))
                    scores["psnr_degraded"].append(psnr_rgb(Pair(image, reference)))
                    scores["ssim"].append(ssim(pair))
        means = {name: _mean(values) for name, values in scores.items()}
        self.progress.history.append({"step": self.progress.step, **means})
        return means

    def _keep(self) -> None:
        score = self.progress.history[-1]["psnr"]
        if score > self.progress.best:
            self.progress.best, self.progress.best_step = score, self.progress.step
            weights = [_array(variable) for variable in self.built.model.variables]
            checkpoint.save(self.work / BEST, weights, self.facts)
        checkpoint.save(
            self.work / CHECKPOINT,
            [_array(variable) for variable in self.learner.state],
            {"training": self.facts, "progress": dataclasses.asdict(self.progress)},
        )

    def _has_stopped_gaining(self) -> bool:
        since = self.progress.step - self.progress.best_step
        return bool(self.args.patience) and since >= self.args.patience * self.args.every

    def _resume(self) -> None:
        path = self.work / CHECKPOINT
        arrays, facts = checkpoint.read(path)
        checkpoint.require_same(path, facts["training"], json.loads(json.dumps(self.facts)))
        _assign(self.learner.state, arrays, path)
        self.progress = Progress(**facts["progress"])
        log.info("resumed at step %d", self.progress.step)

    def _start_from(self, initial: str) -> None:
        """Take the weights of a SavedModel or of a checkpoint of the same network."""
        path = Path(initial)
        if path.suffix == ".npz":
            arrays, _ = checkpoint.read(path)
        else:
            try:
                arrays = weights_of(path)
            except ValueError as error:
                raise TrainingError(str(error)) from error
        _assign(self.built.model.variables, arrays, path)

    def _finish(self) -> Path:
        args = self.args
        # Where a command is interrupted there is no SavedModel, not half of one.
        part = self.target.with_name(f".{self.target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            export(self.built.model, part, self.built.contract, self.built.space)
            card = model_card.write(
                self.target.name, self.network, self.facts, self.progress, self.left_out, args
            )
            (part / "README.md").write_text(card, encoding="utf-8")
            if self.target.exists():
                shutil.rmtree(self.target)
            part.replace(self.target)
            picture = self.target.with_name(f"{self.target.name}-validation.jpg")
            picture.write_bytes(self._sheet())
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise TrainingError(
                f"cannot write {self.target} ({error.strerror or error}): make room, then --resume"
            ) from error
        log.info("the SavedModel: %s; side by side: %s", self.target, picture)
        return self.target

    def _sheet(self) -> bytes:
        rows = []
        for example in self.validation[:_SHOWN]:
            (restored,) = self._restored([example])
            before = psnr_rgb(Pair(_like(example.image, example.reference), example.reference))
            after = psnr_rgb(Pair(_like(restored, example.reference), example.reference))
            rows.append(
                Row(
                    example.key,
                    (
                        (example.image, f"input: {_decibels(before)}"),
                        (restored, f"output: {_decibels(after)}"),
                        (example.reference, "original"),
                    ),
                )
            )
        title = f"{self.args.network} on {self.sampler.recipe}, images never trained on"
        return contact_sheet(rows, title, side=256)


def _target(args: Namespace) -> Path:
    if "://" in args.savedmodel:
        raise TrainingError(
            f"{args.savedmodel} is elsewhere: train to a folder of this machine, then copy it"
        )
    target = Path(os.path.abspath(args.savedmodel))
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


def _prepare(precision: str, args: Namespace) -> None:
    """Seed everything, and set how Keras' backend computes."""
    keras.utils.set_random_seed(args.seed)
    if keras.config.backend() != "tensorflow":
        keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
        return
    import tensorflow as tf

    with suppress(RuntimeError):  # TensorFlow has started: the first in the process decided
        tf.config.threading.set_intra_op_parallelism_threads(args.threads or _cores())
    # Threads that add in any order would end a resumed training with other weights.
    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options(
        {"auto_mixed_precision_onednn_bfloat16": precision == "bfloat16"}
    )


def _assign(variables: list[keras.Variable], arrays: list[np.ndarray], path: Path) -> None:
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in arrays]:
        raise CheckpointError(
            f"{path} is of another network: its {len(arrays)} arrays do not fit the "
            f"{len(shapes)} of this one"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _array(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable.value))


def _of_one_shape(examples: list[Example]) -> Iterator[list[Example]]:
    groups: dict[tuple, list[Example]] = {}
    for example in examples:
        groups.setdefault((example.image.shape, example.image.dtype), []).append(example)
    yield from groups.values()


def _like(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Give a gray image as many channels as its reference has, or the other way round."""
    if image.shape == reference.shape:
        return image
    unit = colour.with_channels(colour.to_unit(image), reference.shape[-1])
    return colour.from_unit(unit, reference.dtype)


def _mean(scores: list[float | None]) -> float:
    """Give the mean of those that are defined; infinity where all images are equal."""
    defined = [score for score in scores if score is not None]
    return float(np.mean(defined)) if defined else math.inf


def _decibels(score: float | None) -> str:
    return "equal" if score is None else f"{score:.2f} dB"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
