"""What networks are trained on: crops of an archive's originals, varied and damaged on the fly.

Nothing here imports Keras or TensorFlow: worker processes start and stay small.
"""

import hashlib
import itertools
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path

import cv2
import numpy as np
from skimage.color import rgb2yuv

from models.contract import CHANNELS, Contract
from transforms import colour
from transforms.read import decode_record, read_record
from transforms.recipe import Recipe
from transforms.record import Batch, Record, Source
from transforms.shards import Columns, OpenShard

_TOGETHER = 64  # files that are read at a time

# Batches that are ready or being made while a step is taken, for each worker process.
_AHEAD = 3

Inputs = np.ndarray | list[np.ndarray]


class WorkerError(RuntimeError):
    """A worker process that has died, and what to do."""


@dataclass(frozen=True, slots=True)
class Original:
    """Where one image's pixels are among the stored: its key, its master's digest, and its place.

    Attributes:
        key: of the record.
        sha256: of the encoded master.
        offset: of its first byte.
        shape: [H, W, 1 or 3].
        dtype: uint8 or uint16.
    """

    key: str
    sha256: str
    offset: int
    shape: tuple[int, int, int]
    dtype: str


class Originals:
    """Decoded images in one file, which all worker processes map into memory together.

    Args:
        path: the file, as `gather` writes it.
        images: what is in it.
    """

    def __init__(self, path: str, images: Sequence[Original]) -> None:
        self.path = path
        self.images = tuple(images)
        self._bytes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_bytes": None}

    def pixels(self, index: int) -> np.ndarray:
        """Give uint8 or uint16 [H, W, 1 or 3], not to be written to."""
        if self._bytes is None:
            self._bytes = np.memmap(self.path, np.uint8, "r")
        image = self.images[index]
        size = int(np.prod(image.shape)) * np.dtype(image.dtype).itemsize
        return (
            self._bytes[image.offset : image.offset + size].view(image.dtype).reshape(image.shape)
        )

    @property
    def digest(self) -> str:
        """The SHA-256 of all keys and of their masters' digests."""
        lines = sorted(f"{image.key}\0{image.sha256}\n" for image in self.images)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def gather(
    sources: Iterable[Source],
    path: Path,
    *,
    columns: Columns,
    max_pixels: int,
    least: int,
    in_colour: bool,
) -> tuple[Originals, Counter[str]]:
    """Decode images into one file, and count what is left out by its reason.

    Args:
        sources: what to read.
        path: file to write.
        columns: of shards that hold images and names.
        max_pixels: an image of more is left out.
        least: an image with a shorter side is left out.
        in_colour: leave out images that are gray.

    Raises:
        OSError: the file cannot be written.
    """
    images, left_out = [], Counter[str]()
    with path.open("wb") as file:
        for record in _decoded(sources, columns, max_pixels):
            if record.failure is not None:
                left_out[f"cannot be read ({record.failure.message})"] += 1
            elif min(record.image.shape[:2]) < least:
                left_out[f"smaller than the crop of {least} pixels"] += 1
            elif in_colour and is_gray(record.image):
                left_out["gray, where colour is to be learnt"] += 1
            else:
                pixels = record.image
                assert record.sha256 is not None, "what has been read has a digest"
                height, width, channels = pixels.shape
                shape = (height, width, channels)
                images.append(
                    Original(record.key, record.sha256, file.tell(), shape, str(pixels.dtype))
                )
                file.write(np.ascontiguousarray(pixels).data)
                if file.tell() % 2:
                    file.write(b"\0")  # uint16 begins at even places
    return Originals(str(path), images), left_out


def _decoded(sources: Iterable[Source], columns: Columns, max_pixels: int) -> Iterator[Record]:
    """Read files in threads; images of shards in their order, as those are quickest to read."""
    with ThreadPoolExecutor(4) as pool, OpenShard(columns) as shard:

        def decoded(source: Source) -> Record:
            functions = {
                "read": lambda record: read_record(record, shard),
                "decode": lambda record: decode_record(record, max_pixels),
            }
            return Batch("", (Record(source=source),)).map(functions).records[0]

        for in_shard, group in itertools.groupby(sources, lambda source: bool(source.member)):
            if in_shard:
                yield from map(decoded, group)
                continue
            while files := list(itertools.islice(group, _TOGETHER)):
                yield from pool.map(decoded, files)


def is_gray(pixels: np.ndarray) -> bool:
    """Say whether no pixel is further than 2 % of white from gray."""
    if pixels.shape[-1] == 1:
        return True
    spread = pixels.max(axis=-1) - pixels.min(axis=-1)
    return bool(spread.max() <= colour.white(pixels.dtype) // 50)


def split(originals: Originals, share: float) -> tuple[list[int], list[int], int]:
    """Part images into those to train on and those to validate with.

    A digest of the key decides, so that an image is on the same side in every training. What is
    byte for byte the same as a validation image is left out of training, whatever its key.

    Returns:
        Indices of the ones and the others, and how many were left out.
    """
    training: list[int] = []
    validation: list[int] = []
    for index, image in enumerate(originals.images):
        digest = hashlib.sha256(image.key.encode("utf-8", "surrogateescape")).digest()
        held_out = int.from_bytes(digest[:4]) / 2**32 < share
        (validation if held_out else training).append(index)
    seen = {originals.images[index].sha256 for index in validation}
    apart = [index for index in training if originals.images[index].sha256 not in seen]
    return apart, validation, len(training) - len(apart)


def _flip(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _turn(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    return np.rot90(pixels, int(rng.integers(4)))


def _tone(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    gamma, low, high = np.exp(rng.uniform(-0.35, 0.35)), rng.uniform(0, 0.1), rng.uniform(0.9, 1)
    if rng.random() < 0.5:
        return pixels
    levels = np.linspace(0, 1, colour.white(pixels.dtype) + 1, dtype=np.float32)
    table = colour.from_unit(low + (high - low) * levels ** np.float32(gamma), pixels.dtype)
    return table[pixels]


ZOOM = "zoom"

# How crops are varied, in the order in which it is done.
AUGMENTATIONS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "flip": _flip,
    "turn": _turn,
    "tone": _tone,
}


def random_crop(
    rng: np.random.Generator, pixels: np.ndarray, side: int, augment: Sequence[str]
) -> np.ndarray:
    """Cut a square of `side` pixels and vary it.

    With `zoom` the cut is from half the shorter side up, squeezed by up to a third, and shrunk to
    `side`: the network sees whole scenes.
    """
    height, width = pixels.shape[:2]
    rows = columns = side
    if ZOOM in augment:
        edge = min(height, width) * np.sqrt(rng.uniform(0.25, 1))
        squeeze = np.exp(rng.uniform(-0.15, 0.15))
        rows, columns = (
            int(np.clip(wanted, side, most))
            for wanted, most in ((edge * squeeze, height), (edge / squeeze, width))
        )
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    crop = _shrunk(pixels[top : top + rows, left : left + columns], side)
    for name, vary in AUGMENTATIONS.items():
        if name in augment:
            crop = vary(rng, crop)
    return np.ascontiguousarray(crop)


def central_crop(pixels: np.ndarray, side: int, augment: Sequence[str]) -> np.ndarray:
    """Cut the middle: a square of `side` pixels, or with `zoom` the largest, shrunk to it."""
    edge = min(pixels.shape[:2]) if ZOOM in augment else side
    top, left = ((length - edge) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(_shrunk(pixels[top : top + edge, left : left + edge], side))


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    if pixels.shape[:2] == (side, side):
        return pixels
    small = cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=cv2.INTER_AREA)
    return small.reshape(side, side, -1)


def network_input(image: np.ndarray, contract: Contract) -> np.ndarray:
    """Give float32 [H, W, C] in the contract's input space and range of uint8 or uint16 pixels."""
    unit = colour.to_unit(image)
    low, high = contract.input_range
    if contract.input_space == "L":
        unit = colour.lightness(unit)[..., None] / np.float32(100)
    else:
        unit = colour.with_channels(unit, CHANNELS[contract.input_space])
    return unit * np.float32(high - low) + np.float32(low)


def _hsv(unit: np.ndarray) -> np.ndarray:
    hue, saturation, value = np.moveaxis(cv2.cvtColor(unit, cv2.COLOR_RGB2HSV), -1, 0)
    angle = np.deg2rad(hue)
    return np.stack([saturation * np.cos(angle), saturation * np.sin(angle), value], axis=-1)


# What a network is to give for sRGB in [0, 1], by the colour space of its output.
_TRUTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "RGB": lambda unit: unit,
    "gray": lambda unit: colour.with_channels(unit, 1),
    "ab": lambda unit: (colour.lab(unit)[..., 1:] + 128) / 256,
    "YUV": lambda unit: rgb2yuv(unit)[..., 1:],
    "HSV": _hsv,
}


def truth(reference: np.ndarray, contract: Contract, space: str) -> np.ndarray:
    """Give what a learner is to give, float32 [H, W, C], of the reference's pixels.

    Args:
        reference: uint8 or uint16 [H, W, 1 or 3].
        contract: of the model.
        space: of the learner's output (see `models.networks.table.Built`).
    """
    unit = colour.to_unit(reference)
    if space != "gray":
        unit = colour.with_channels(unit, 3)
    wanted = _TRUTHS[space](unit).astype(np.float32)
    if space != contract.output_space:
        return wanted
    residual = contract.output == "residual"
    low, high = contract.input_range if residual else contract.output_range
    return wanted * np.float32(high - low) + np.float32(low)


@dataclass(frozen=True, slots=True)
class Example:
    """A crop: its key, as damaged, as it was, and which pixels are missing."""

    key: str
    image: np.ndarray
    reference: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Makes batch after batch: what is in one is decided by its number and the seed alone.

    Attributes:
        originals: the images.
        training: indices of those to train on.
        recipe: what to damage crops by.
        seed: of all randomness.
        count: crops of a batch.
        side: of the crops, in pixels.
        augment: how crops are varied: names of `AUGMENTATIONS`, and `zoom`.
        contract: of the network.
        space: of the learner's output.
        masked: whether the network takes the mask of missing pixels.
    """

    originals: Originals
    training: Sequence[int]
    recipe: Recipe
    seed: int
    count: int
    side: int
    augment: tuple[str, ...]
    contract: Contract
    space: str
    masked: bool = False

    def batch(self, step: int) -> tuple[Inputs, np.ndarray]:
        """Give the inputs and the truth of one step, counted from 0."""
        examples = [self._example(step * self.count + place) for place in range(self.count)]
        return self.inputs(examples), np.stack(
            [truth(example.reference, self.contract, self.space) for example in examples]
        )

    def inputs(self, examples: Sequence[Example]) -> Inputs:
        """Give what the network takes."""
        images = np.stack([network_input(example.image, self.contract) for example in examples])
        if not self.masked:
            return images
        return [images, np.stack([example.mask[..., None] for example in examples])]

    def _example(self, number: int) -> Example:
        epoch, place = divmod(number, len(self.training))
        index = self.training[_shuffled(self.seed, epoch, len(self.training))[place]]
        rng = np.random.default_rng([self.seed, number])
        crop = random_crop(rng, self.originals.pixels(index), self.side, self.augment)
        key = self.originals.images[index].key
        return self._damaged(key, crop, f"{key}\0{number}")

    def validation(self, indices: Sequence[int]) -> list[Example]:
        """Give the middles of images, damaged as by `evaluate`: the same in every training."""
        return [
            self._damaged(
                self.originals.images[index].key,
                central_crop(self.originals.pixels(index), self.side, self.augment),
                self.originals.images[index].key,
            )
            for index in indices
        ]

    def _damaged(self, key: str, crop: np.ndarray, name: str) -> Example:
        damaged = self.recipe.apply(crop, seed=self.seed, key=name)
        mask = np.zeros(crop.shape[:2], np.float32)
        if damaged.mask is not None:
            mask[damaged.mask] = 1
        return Example(key, damaged.pixels, crop, mask)


@lru_cache(maxsize=4)
def _shuffled(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, count]).permutation(count)


def batches(
    sampler: Sampler, start: int, stop: int, processes: int
) -> Iterator[tuple[Inputs, np.ndarray]]:
    """Give the batches of steps in their order, made ahead in worker processes.

    Raises:
        WorkerError: a process was killed.
    """
    pool = ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=_remember, initargs=(sampler,)
    )
    ready: deque[Future] = deque()
    try:
        for step in range(start, stop):
            ready.append(pool.submit(_batch, step))
            if len(ready) > _AHEAD * processes:
                yield ready.popleft().result()
        while ready:
            yield ready.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process was killed, perhaps for want of memory: say fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_sampler: Sampler | None = None


def _remember(sampler: Sampler) -> None:
    global _sampler
    _sampler = sampler
    cv2.setNumThreads(1)  # a process has one core, and its neighbours the others
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # A training that is killed cannot shut its pool down, and a pool waits for work for ever.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _batch(step: int) -> tuple[Inputs, np.ndarray]:
    assert _sampler is not None, "processes are started with a sampler"
    return _sampler.batch(step)
