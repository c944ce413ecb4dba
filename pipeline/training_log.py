"""Tell how a training goes: a bar on a terminal, lines elsewhere, and TensorBoard's files."""

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from models.export import reason
from transforms.storage import StorageError

log = logging.getLogger("heliograph")

_SAY_EVERY = 5.0  # seconds
_WRITE_EVERY = 10  # steps


class TrainingLog:
    """What a person sees while the block runs, and the losses and scores for TensorBoard.

    Args:
        folder: of TensorBoard's files.
        steps: of the whole training.
        done: steps that an earlier run has taken.

    Raises:
        StorageError: TensorBoard's files cannot be written, here or in any method.
    """

    def __init__(self, folder: Path, steps: int, done: int = 0) -> None:
        import tensorflow as tf

        self._tf = tf
        # TensorBoard's own functions would need TensorBoard; its format does not.
        scalars = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        self._metadata = tf.compat.v1.SummaryMetadata(plugin_data=scalars)
        self._folder = folder
        with self._writing():
            self._writer = tf.summary.create_file_writer(str(folder))
        self._steps = steps
        self._since: dict[str, list[float]] = defaultdict(list)
        self._said = self._began = time.monotonic()
        self._done = self._first = done
        self._score = ""
        self._bar: Any = None

    def __enter__(self) -> "TrainingLog":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("steps, {task.fields[told]},"),
                TimeRemainingColumn(),
                TextColumn("left"),
            )
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task("", total=self._steps, completed=self._done, told="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        try:
            with self._writing():
                self._writer.close()
        except StorageError:
            if error is None:  # else that is what stops the training, and what is told
                raise

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Take note of a step's losses."""
        for name, loss in losses.items():
            self._since[name].append(loss)
        self._done = step
        if step % _WRITE_EVERY == 0 or step == self._steps:
            self._write(step, {name: sum(held) / len(held) for name, held in self._since.items()})
            self._since.clear()
        told = f"loss {losses['loss']:.4g}{self._score}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, told=told)
        elif time.monotonic() - self._said >= _SAY_EVERY:
            self._said = time.monotonic()
            rate = (step - self._first) / (self._said - self._began)
            log.info("step %d of %d, %s, %.1f steps/s", step, self._steps, told, rate)

    def validated(self, step: int, scores: Mapping[str, float]) -> None:
        """Take note of a validation."""
        self._write(step, {f"validation/{name}": score for name, score in scores.items()})
        self._score = f", validation PSNR {scores['psnr']:.2f} dB"
        log.info(
            "step %d of %d: validation PSNR %.2f dB (%.2f dB going in), SSIM %.4f",
            step,
            self._steps,
            scores["psnr"],
            scores["psnr_degraded"],
            scores["ssim"],
        )

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        with self._writing(), self._writer.as_default():
            for name, value in values.items():
                tensor = self._tf.constant(value, self._tf.float32)
                self._tf.summary.write(name, tensor, step, self._metadata)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except self._tf.errors.OpError as error:
            told = (
                f"cannot write TensorBoard's files in {self._folder} ({reason(error)}): make room"
            )
            raise StorageError(told) from error
