"""Train a network of the table on an archive, and export it as a SavedModel."""

import dataclasses
import json
import logging
import math
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.export import served, weights_of
from models.learners import Adversarial, Supervised
from models.losses import LossError, Rebalanced, parse_loss
from models.networks.autoencoders import encoder
from models.networks.colorizers import gamut_bins
from models.networks.table import NetworkError, build
from models.optimizers import Schedule, make_optimizer
from pipeline import checkpoint, training_result
from pipeline.archive import ArchiveError
from pipeline.checkpoint import CheckpointError, Progress
from pipeline.environment import cores
from pipeline.examples import Inputs, Sampler, WorkerError, batches
from pipeline.training_log import TrainingLog
from pipeline.training_setup import (
    BEST,
    CHECKPOINT,
    LOGS,
    StoppedError,
    TrainingError,
    check,
    check_loss,
    clear_work,
    facts_of,
    find_images,
    open_work,
    prepare,
)
from pipeline.validation import Validation
from transforms import storage
from transforms.recipe import RecipeError

log = logging.getLogger("heliograph")


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
        TrainingError: it cannot be begun as asked.
        StoppedError: it cannot go on; its last checkpoint is kept.
    """
    try:
        trainer = Trainer(args)
    except _TOLD as error:
        raise TrainingError(str(error)) from error
    return trainer.run()


# What is for a person to read, and says what to do.
_TOLD = (
    ArchiveError,
    CheckpointError,
    LossError,
    NetworkError,
    RecipeError,
    WorkerError,
    storage.StorageError,
)


class Trainer:
    """One training: checked, begun or resumed, run, exported and described.

    Args:
        args: of the command line.

    Raises:
        TrainingError, NetworkError, LossError, RecipeError: what was asked cannot be done; nothing
            has been written.
    """

    def __init__(self, args: Namespace) -> None:
        self.args = args
        self.setup = check(args)
        prepare(self.setup, args)
        self.built = build(args.network, self.setup.choices)
        check_loss(self.setup, self.built, args.loss)
        self.serve = served(self.built.model, self.built.contract, self.built.space)
        self.progress = Progress()
        self._saved = 0  # the step of the checkpoint, once there is one

    def run(self) -> Path:
        """Train, export, describe; and give the SavedModel's folder.

        Raises:
            TrainingError: it cannot be begun; an earlier training is as it was.
            StoppedError: it cannot go on; its last checkpoint is kept, and there is no SavedModel.
        """
        with open_work(self.setup, self.args):
            try:
                self._begin()
            except _TOLD as error:
                raise TrainingError(str(error)) from error
            try:
                self._train()
                if self.args.patience and self.progress.best_step:
                    self._take_best()
                return training_result.write(
                    self.setup,
                    self.built,
                    self.validation,
                    self.facts,
                    self.progress,
                    self.images.left_out,
                    self.args,
                )
            except _TOLD as error:
                kept = f"; --resume goes on from step {self._saved}" if self._saved else ""
                raise StoppedError(f"{error}{kept}") from error

    def _begin(self) -> None:
        """Find images, and the weights to start from."""
        args, setup = self.args, self.setup
        self.images = find_images(setup, self.built, args)
        self.sampler = self.images.sampler
        self.validation = Validation(self.images.validation, self.serve, self.built.contract)
        self.facts = facts_of(setup, self.built, self.images, args)
        self.learner = self._learner()
        if args.resume:
            self._resume()
            return
        if args.initial:
            self._start_from(args.initial)
        clear_work(setup)

    def _train(self) -> None:
        """Take the steps that are left."""
        args = self.args
        workers = cores() if args.workers is None else args.workers
        crops = Crops(self.sampler, self.progress.step, args.steps, workers)
        with TrainingLog(self.setup.work / LOGS, args.steps, self.progress.step) as told:
            began = time.monotonic() - self.progress.seconds
            for inputs, truth in crops:
                losses = self.learner.step(inputs, truth)
                self.progress.step += 1
                if not all(math.isfinite(loss) for loss in losses.values()):
                    raise self._diverged("the loss is no number any more")
                told.step(self.progress.step, losses)
                self.progress.seconds = time.monotonic() - began
                if self.progress.step % args.every == 0 or self.progress.step == args.steps:
                    told.validated(self.progress.step, self._validate())
                    self._keep()
                    if self._has_stopped_gaining():
                        log.info("stopped early: no gain in the last %d validations", args.patience)
                        break

    def _validate(self) -> dict[str, float]:
        """Score the network, and keep its scores in the history."""
        try:
            scores = self.validation.scores()
        except ValueError as error:  # after a step whose own loss was still a number
            raise self._diverged(f"the validation images cannot be restored ({error})") from error
        self.progress.history.append({"step": self.progress.step, **scores})
        return scores

    def _diverged(self, what: str) -> StoppedError:
        kept = "there is no checkpoint yet"
        if self._saved:
            kept = (
                f"the last good checkpoint, of step {self._saved}, is kept, and "
                f"{self.setup.work / BEST} holds the weights of step {self.progress.best_step} "
                "for --initial"
            )
        return StoppedError(
            f"at step {self.progress.step} {what}; {kept}. Lower --rate, raise --warmup, or say "
            "--clip_norm"
        )

    def _keep(self) -> None:
        """Save a checkpoint, and the weights if they are the best."""
        score = self.progress.history[-1]["psnr"]
        if score > self.progress.best:
            self.progress.best, self.progress.best_step = score, self.progress.step
            weights = [_array(variable) for variable in self.built.model.variables]
            checkpoint.save(self.setup.work / BEST, weights, self.facts)
        checkpoint.save(
            self.setup.work / CHECKPOINT,
            [_array(variable) for variable in self.learner.state],
            {"training": self.facts, "progress": dataclasses.asdict(self.progress)},
        )
        self._saved = self.progress.step

    def _has_stopped_gaining(self) -> bool:
        since = self.progress.step - self.progress.best_step
        return bool(self.args.patience) and since >= self.args.patience * self.args.every

    def _resume(self) -> None:
        path = self.setup.work / CHECKPOINT
        arrays, facts = checkpoint.read(path)
        checkpoint.require_same(path, facts["training"], json.loads(json.dumps(self.facts)))
        _assign(self.learner.state, arrays, path)
        self.progress = Progress(**facts["progress"])
        self._saved = self.progress.step
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

    def _take_best(self) -> None:
        arrays, _ = checkpoint.read(self.setup.work / BEST)
        _assign(self.built.model.variables, arrays, self.setup.work / BEST)

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
        loss: Any = parse_loss(self.setup.loss)
        if self.setup.choices.classification:
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
