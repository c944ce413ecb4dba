"""What all containers of images have in common: entries to plan by, and contents to read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from transforms.scratch import Buffer
from transforms.shards.fields import Fields

Place = tuple[int | str, ...]


class ShardError(ValueError):
    """A container, or one image of it, that cannot be read, and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a shard, as planning found it.

    Attributes:
        name: what the shard calls it, with forward slashes; nothing is promised of it.
        place: where it is, for the format's `contents`; numbers and text only.
        size: bytes.
        pixels: height times width where planning knows them without decoding, else 0.
        trouble: why it cannot be read, if planning found that out. What comes after damage that
            cannot be passed over is one entry, so that it is counted and reported.
        beside: bytes of its fields, roughly.
    """

    name: str
    place: Place
    size: int
    pixels: int = 0
    trouble: str | None = None
    beside: int = 0


@dataclass(frozen=True, slots=True)
class Content:
    """One image of a shard: its encoded file, or the pixels themselves, and what came with it.

    Attributes:
        encoded: bytes of an image file, or a view of them (see `scratch`).
        pixels: uint8 or uint16 [H, W, 1 or 3], where the shard holds arrays.
        fields: the other members, columns or features of the sample, by name.
        features: what the shard says of the fields, by name, as Hugging Face's `datasets` describes
            its features.
    """

    encoded: Buffer | None = None
    pixels: np.ndarray | None = None
    fields: Fields = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardFormat:
    """How one kind of container is planned and read.

    Attributes:
        name: as `--format` calls it.
        extensions: that its files end in.
        looks_right: tells by the first 512 bytes of a file, decompressed, whether it may be one.
        entries: lists the images of an open file, in the order in which reading is fastest. It
            reads headers, not images, wherever the format allows, and its memory does not grow
            with the file. Raises ShardError only for what is no such container at all.
        contents: prepares an open file for reading: gives a function from an entry's place to its
            content, which raises ShardError for one image and can go on with the next. Places
            come in the order of `entries`, though not all of them.
        part: tells by a place which part of the file it is in, where parts have to be read from
            their beginnings; one worker reads all of a part. None where any image is as near.
        sample: tells by its name which images belong together, and are not to be parted into
            several batches. None where each stands for itself.
    """

    name: str
    extensions: tuple[str, ...]
    looks_right: Callable[[bytes], bool]
    entries: Callable[[BinaryIO], Iterator[Entry]]
    contents: Callable[[BinaryIO], Callable[[Place], Content]]
    part: Callable[[Place], int | str] | None = None
    sample: Callable[[str], str] | None = None
