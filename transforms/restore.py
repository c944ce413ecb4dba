"""Restore a batch with a SavedModel: whole, in tiles, or by its chroma alone."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, RunInference

from models.contract import CHANNELS, Contract
from models.handler import SavedModelHandler
from models.saved_model import LoadedModel
from transforms import colour, deadline, scratch, tiling
from transforms.deadline import Limit
from transforms.record import Batch, Record

DEFAULT_TILE = 640

# Images of one size run as one stack up to this many pixels: more gains nothing on a processor.
_STACK = 64 * 64 * 16

# TensorFlow keeps several megabytes for every shape that a model has met, without end (oneDNN's
# compiled convolutions): sides are padded up to few lengths, or an archive of many sizes would fill
# the memory. Measured on 1,200 sizes in bfloat16: 2.7 GB with multiples of 8, 0.5 GB with 64, and
# no slower. Small sides have steps of their own, for they would be padding more than image.
_STEP, _SMALL, _SMALL_STEP = 64, 64, 16

_UNIT = (0.0, 1.0)  # the range that needs no scaling

Model = Callable[..., np.ndarray]


def restore_images(
    images: list[np.ndarray],
    model: Model,
    contract: Contract,
    tile: int = DEFAULT_TILE,
    masks: list[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Run a model on images of one shape and type.

    An image gets the same result in any company: stacking changes nothing (measured on
    TensorFlow 2.21, and tested).

    Args:
        images: uint8 or uint16 [H, W, 1 or 3].
        model: float32 [N, H, W, C] to float32, as the contract says; called with bool [N, H, W]
            as well where there are masks.
        contract: of the model.
        tile: side of the largest window that the model is run on.
        masks: bool [H, W], True where a pixel is missing, for a model that takes them.

    Returns:
        The restored images in the same type. Gray stays gray unless the model colorizes.

    Raises:
        ValueError: a tile too small for the model's margin, or a result of the wrong size or with
            NaN in it.
    """
    if contract.predicts_chroma:
        return [_colorize(image, model, contract) for image in images]
    height, width = images[0].shape[:2]
    rows, columns = (
        _spans(side, contract, tile, axis) for axis, side in enumerate((height, width))
    )
    if len(rows) == len(columns) == 1:
        stack = np.stack(images)
        holes = None
        if masks is not None:
            holes = np.stack([_cut_mask(mask, rows[0], columns[0]) for mask in masks])
        inputs = _input(tiling.cut(stack, rows[0], columns[0]), contract)
        outputs = _call(model, contract, inputs, holes)
        return list(_result(stack, outputs[:, :height, :width], contract))
    return [
        _tiled(image, masks[index] if masks else None, model, contract, rows, columns)
        for index, image in enumerate(images)
    ]


def check_tile(contract: Contract, tile: int) -> None:
    """Make sure that images larger than a tile can be restored at all.

    Raises:
        ValueError: the tile leaves no room between the model's margins; the message says how large
            it must be.
    """
    if contract.size is None and not contract.predicts_chroma:
        _spans(2 * tile + _STEP, contract, tile, 0)


def seams(
    height: int, width: int, contract: Contract, tile: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the middles of the seams between the tiles of an image: of rows, and of columns.

    There are none where a model predicts chroma, which it does at a size of its own.
    """
    if contract.predicts_chroma:
        return (), ()
    rows, columns = (
        tuple(span.last - tiling.BLEND // 2 for span in _spans(side, contract, tile, axis)[:-1])
        for axis, side in enumerate((height, width))
    )
    return rows, columns


def _spans(side: int, contract: Contract, tile: int, axis: int) -> list[tiling.Span]:
    """Cover one side of an image with windows of a length that the model takes."""
    if contract.size:
        window, multiple = contract.size[axis], contract.multiple
        full = tiling.padded(side, multiple, window)
    else:
        step = _SMALL_STEP if side <= _SMALL else _STEP
        multiple = math.lcm(step, contract.multiple)
        window, full = tiling.padded(tile, multiple), tiling.padded(side, multiple)
    exact = contract.size is not None
    return tiling.spans(full, window, margin=contract.margin, multiple=multiple, exact=exact)


def _tiled(
    image: np.ndarray,
    mask: np.ndarray | None,
    model: Model,
    contract: Contract,
    rows: list[tiling.Span],
    columns: list[tiling.Span],
) -> np.ndarray:
    height, width = image.shape[:2]
    result = scratch.empty((height, width, _channels(image, contract)), image.dtype)
    canvas = tiling.Canvas(height, width, CHANNELS[contract.output_space], columns)
    for row in rows:
        windows = (
            _call(
                model,
                contract,
                _input(tiling.cut(image, row, column), contract)[None],
                None if mask is None else _cut_mask(mask, row, column)[None],
            )[0]
            for column in columns
        )
        for lines, values in canvas.row(row, windows):
            result[lines] = _result(image[lines], values, contract)
    return result


def _cut_mask(mask: np.ndarray, rows: tiling.Span, columns: tiling.Span) -> np.ndarray:
    """Give one window of a mask. What pads the image is no part of it, so it is missing, too."""
    window = mask[rows.start : rows.stop, columns.start : columns.stop]
    below, right = rows.stop - rows.start, columns.stop - columns.start
    beyond = ((0, below - window.shape[0]), (0, right - window.shape[1]))
    return np.pad(window, beyond, constant_values=True)


def _colorize(image: np.ndarray, model: Model, contract: Contract) -> np.ndarray:
    height, width = image.shape[:2]
    # Without a size of its own, a fully convolutional model sees what it was trained to see.
    scale = min(1.0, contract.shortest_side / min(height, width))
    size = contract.size or tuple(
        tiling.padded(round(side * scale), contract.multiple) for side in (height, width)
    )
    low, high = contract.input_range
    if contract.input_space == "L":
        small = colour.shrunken_lightness(image, *size) / np.float32(100)
    else:
        small = colour.with_channels(colour.shrunken(image, *size), CHANNELS[contract.input_space])
    output = _call(model, contract, (small * np.float32(high - low) + np.float32(low))[None])[0]
    low, high = contract.output_range
    unit = (output - np.float32(low)) / np.float32(high - low)
    if contract.output_space == "RGB":
        return colour.join_chroma(image, colour.lab(np.clip(unit, 0, 1))[..., 1:])
    return colour.join_chroma(image, unit * 256 - 128)


def _call(
    model: Model, contract: Contract, inputs: np.ndarray, masks: np.ndarray | None = None
) -> np.ndarray:
    deadline.check()
    outputs = model(inputs) if masks is None else model(inputs, masks)
    if outputs.shape[:3] != inputs.shape[:3]:
        raise ValueError(
            f"{contract.name} gave {outputs.shape[1]} x {outputs.shape[2]} pixels "
            f"for {inputs.shape[1]} x {inputs.shape[2]}"
        )
    if not np.isfinite(outputs).all():
        raise ValueError(f"{contract.name} gave NaN or infinity")
    return outputs


def _input(window: np.ndarray, contract: Contract) -> np.ndarray:
    unit = colour.with_channels(colour.to_unit(window), CHANNELS[contract.input_space])
    if contract.input_range == _UNIT:
        return unit
    low, high = contract.input_range
    return unit * np.float32(high - low) + np.float32(low)


def _channels(image: np.ndarray, contract: Contract) -> int:
    """Give the channels of the result: the image's own, unless gray becomes colour."""
    return 3 if contract.colorizes else image.shape[-1]


def _result(image: np.ndarray, output: np.ndarray, contract: Contract) -> np.ndarray:
    if contract.output == "residual":
        # Added here, in float32, so that a model in bfloat16 rounds its correction, not the image.
        low, high = contract.input_range
        added = colour.with_channels(output / np.float32(high - low), image.shape[-1])
        return colour.from_unit(colour.to_unit(image) + added, image.dtype)
    unit = output
    if contract.output_range != _UNIT:
        low, high = contract.output_range
        unit = (output - np.float32(low)) / np.float32(high - low)
    channels = _channels(image, contract)
    return colour.from_unit(colour.with_channels(unit, channels), image.dtype)


def restore_batch(
    batch: Batch, model: LoadedModel, tile: int = DEFAULT_TILE, name: str | None = None
) -> Batch:
    """Restore every record that has not failed; neighbours in size share a call of the model.

    All carry the model's name: the contract's, or another to tell it by.
    """
    named = name or model.contract.name
    records = [record.replace(model=named) for record in batch.records]
    for indices in _stacks(batch):
        restored = _restore([records[index] for index in indices], model, tile, batch.limit)
        for index, record in zip(indices, restored, strict=True):
            records[index] = record
    return batch.of(records)


def _restore(
    records: list[Record], model: LoadedModel, tile: int, limit: Limit | None
) -> list[Record]:
    started = time.monotonic()
    try:
        images = [record.image for record in records]
        masks = None
        if model.contract.mask_input is not None:
            masks = [_mask(record) for record in records]
        with _within(limit, records):
            restored = restore_images(images, model, model.contract, tile, masks)
    except Exception as error:  # counted, committed and reported as a record's failure
        if len(records) == 1:
            return [records[0].failed("restore", error)]
        # One image must not take its neighbours with it: halves of a stack are stacks as well.
        half = len(records) // 2
        return [
            *_restore(records[:half], model, tile, limit),
            *_restore(records[half:], model, tile, limit),
        ]
    took = (time.monotonic() - started) / len(records)
    height, width = images[0].shape[:2]
    middles = seams(height, width, model.contract, tile)
    return [
        record.replace(restored=image, seams=middles, spent=record.spent + took)
        for record, image in zip(records, restored, strict=True)
    ]


def _within(limit: Limit | None, records: list[Record]) -> AbstractContextManager[object]:
    if limit is None:
        return nullcontext()
    for record in records:
        limit.check(record.key, "restore", record.spent)
    spent = max(record.spent for record in records)
    return deadline.Working(limit, "restore", [record.key for record in records], spent)


def _mask(record: Record) -> np.ndarray:
    """Give the mask of a record; where nothing took pixels away, none is missing."""
    if record.mask is not None:
        return record.mask
    return np.broadcast_to(False, record.image.shape[:2])


def _stacks(batch: Batch) -> Iterable[list[int]]:
    """Group the records that can share a call: one shape, one type, few pixels together.

    One of those that went together when a process was ended goes alone.
    """
    groups: dict[tuple, list[int]] = {}
    for index, record in enumerate(batch.records):
        if record.failure is None:
            alone = index if batch.limit and batch.limit.is_suspect(record.key) else None
            groups.setdefault((record.image.shape, record.image.dtype, alone), []).append(index)
    for (shape, *_), indices in groups.items():
        most = max(1, _STACK // (shape[0] * shape[1]))
        while indices:
            # Powers of two, so that the stacks' heights are few as well.
            count = 1 << (min(most, len(indices)).bit_length() - 1)
            yield indices[:count]
            indices = indices[count:]


class BatchHandler(ModelHandler[Record, Batch, LoadedModel]):
    """Serve batches that are ready-made: what RunInference gets is what the model is run on.

    Args:
        handler: loads the model.
        tile: side of the largest window that the model is run on.
        name: to tell the model by; None for its contract's.
    """

    def __init__(
        self, handler: SavedModelHandler, tile: int = DEFAULT_TILE, name: str | None = None
    ) -> None:
        super().__init__()
        self.handler = handler
        self.tile = tile
        self.name = name

    def load_model(self) -> LoadedModel:
        """Load the SavedModel, once for each worker process."""
        return self.handler.load_model()

    def run_inference(  # type: ignore[override]  # Beam calls what it hands on a Sequence
        self, batch: Batch, model: LoadedModel, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[Batch]:
        """Restore one batch."""
        return [restore_batch(batch, model, self.tile, self.name)]

    def should_skip_batching(self) -> bool:
        """Say that the elements are batches already."""
        return True

    def get_num_bytes(self, batch: Batch) -> int:  # type: ignore[override]
        """Count the bytes of the arrays."""
        return batch.nbytes

    def get_metrics_namespace(self) -> str:
        """Group Beam's inference metrics under our name."""
        return self.handler.get_metrics_namespace()


class Restore(beam.PTransform):
    """Restore batches of decoded records through Beam's RunInference.

    Args:
        handler: of the SavedModel.
        tile: side in pixels of the largest window that the model is run on.
        name: to tell the model by; None for its contract's.
    """

    def __init__(
        self, handler: SavedModelHandler, tile: int = DEFAULT_TILE, name: str | None = None
    ) -> None:
        super().__init__()
        self.handler = handler
        self.tile = tile
        self.name = name

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Chain RunInference, with batching left out."""
        inference = RunInference(BatchHandler(self.handler, self.tile, self.name))
        return batches | inference.with_output_types(Batch)
