"""Pictures of records, as a page holds them: original, damaged input, result, and how they differ.

The original is read from the master, the result from its derivative, both held to their digests;
the damage is done again, which recipe, seed and key decide. What cannot be had is said.
"""

import base64
import io
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline import masters
from pipeline.ledger import Ledger, Row
from pipeline.packages.package import place
from pipeline.report.words import plain
from transforms import codec, storage
from transforms.read import decode_record
from transforms.recipe import parse_recipe
from transforms.scratch import Buffer
from transforms.shards import FORMATS, USUAL_COLUMNS, Columns, OpenShard, members
from transforms.shards.writers import WRITERS

# Pixels: the longer side of a picture, and the side of the piece that is shown pixel by pixel.
SIDE, PIECE = 640, 160
_QUALITY = 78
# A difference of so many levels of 255, and more, is the brightest of a map.
BRIGHTEST = 48
_ANY = 1 << 62


class PictureError(ValueError):
    """A picture that cannot be had, and why."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One view of a record.

    Attributes:
        label: what it shows.
        full: all of it, as a data URI.
        piece: a piece of it, pixel by pixel, likewise; None where there is none.
        width, height: of `full`, in pixels.
    """

    label: str
    full: str
    piece: str | None
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A record as pictures.

    Attributes:
        layers: from the original to the result.
        difference: a map of how the result differs from what it is compared with.
        trouble: what is missing, and why.
    """

    layers: tuple[Layer, ...]
    difference: Layer | None
    trouble: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Characters in the page."""
        layers = (*self.layers, *((self.difference,) if self.difference else ()))
        return sum(len(layer.full) + len(layer.piece or "") for layer in layers)


class Pictures:
    """Reads the pictures of one job's records. Use it as a context: a shard stays open.

    Args:
        output: where the results are.
        job: what the ledger says the job was.
        rows: all that are to be shown, as `metrics.parquet` has them.
    """

    def __init__(self, output: str, job: Mapping[str, Any], rows: Sequence[Row]) -> None:
        self._output = output
        self._job = job
        columns = job.get("columns")
        self._masters = OpenShard(Columns(**columns) if columns else USUAL_COLUMNS)
        self._results = OpenShard(USUAL_COLUMNS)
        self._known = _from_ledger(Ledger(output), rows)

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *_: object) -> None:
        self._masters.__exit__(None, None, None)
        self._results.__exit__(None, None, None)

    def original(self, row: Row) -> np.ndarray:
        """Read a record's original: uint8 or uint16 [H, W, 1 or 3].

        Raises:
            PictureError: it is not what it was.
            OSError, ShardError, CodecError: it cannot be read.
        """
        row = self._known.get(_name(row), row)
        page = row["page"] or 1
        record = masters.read_again({**row, "key": _file_key(row)}, self._masters)
        if record.sha256 != row["source_sha256"]:
            raise PictureError("the master is not what it was when it was read")
        first = decode_record(record, self._job.get("max_pixels", _ANY))
        return first.image if page == 1 else first.further[page - 2].image

    def damaged(self, row: Row, original: np.ndarray) -> np.ndarray:
        """Do the damage of a record again."""
        row = self._known.get(_name(row), row)
        recipe = parse_recipe(row["recipe"])
        return recipe.apply(original, seed=self._job.get("seed") or 0, key=row["key"]).pixels

    def result(self, row: Row) -> np.ndarray:
        """Read what was written of a record: uint8 or uint16 [H, W, 1 or 3].

        Raises:
            PictureError: nothing was, or it is not what it was.
            OSError, ShardError, CodecError: it cannot be read.
        """
        row = self._known.get(_name(row), row)
        if row["derivative"] is None:
            raise PictureError("it was not kept")
        data = self._encoded(row)
        if sha256(data).hexdigest() != row["derivative_sha256"]:
            raise PictureError("the derivative is not what was written")
        pages = codec.decode_pages(data, max_pixels=_ANY)
        return pages[(row["page"] or 1) - 1 if len(pages) > 1 else 0].pixels

    def _encoded(self, row: Row) -> Buffer:
        path = storage.join(self._output, place(row))
        if row["shard"] is None:
            return storage.read(path)
        kind = next(name for name, known in WRITERS.items() if path.endswith(known.extension))
        for member, _ in members(path, FORMATS[kind]):
            if member.name == row["member"]:
                return self._results.get(path, member).encoded or b""
        raise PictureError(f"it is not in {row['shard']}")


def picture(
    views: Sequence[tuple[str, np.ndarray | str]], difference: tuple[int, int] | None
) -> Picture:
    """Make the pictures of one record.

    Args:
        views: what each shows, and the pixels [H, W, 1 or 3], or why there are none.
        difference: which two of them to draw a map of: what is compared, and with what.
    """
    held = [(label, pixels) for label, pixels in views if not isinstance(pixels, str)]
    trouble = [f"{label}: {reason}" for label, reason in views if isinstance(reason, str)]
    small = {label: _shrunken(pixels) for label, pixels in held}
    map_of: np.ndarray | None = None
    if difference is not None:
        first, second = (views[index][0] for index in difference)
        if first in small and second in small:
            if small[first].shape == small[second].shape:
                map_of = cv2.absdiff(small[first], small[second]).max(axis=-1)
            else:
                trouble.append(f"Difference: {first} and {second} are not of one size")
    sizes = {pixels.shape[:2] for _, pixels in held}
    corner = (
        _busiest(map_of, *next(iter(sizes))) if map_of is not None and len(sizes) == 1 else None
    )
    layers = tuple(
        _layer(label, small[label], None if corner is None else _piece(pixels, corner))
        for label, pixels in held
    )
    changes = None
    if map_of is not None:
        piece = None
        if corner is not None:
            one, other = (_piece(dict(held)[label], corner) for label in (first, second))
            piece = _heat(cv2.absdiff(one, other).max(axis=-1))
        changes = _layer("Difference", _heat(map_of), piece)
    return Picture(layers, changes, tuple(trouble))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Give pixels as uint8 in three channels."""
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels)


def _shrunken(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return _eight_bits(pixels)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return _eight_bits(small.reshape(size[1], size[0], -1))


def _busiest(map_of: np.ndarray, height: int, width: int) -> tuple[int, int] | None:
    """Find the upper left corner of the piece that differs most; None where all of it is shown
    pixel by pixel, or no more than that.
    """
    if max(height, width) <= PIECE:
        return None
    rows, columns = map_of.shape
    side = max(1, round(PIECE * rows / height)), max(1, round(PIECE * columns / width))
    side = min(side[0], rows), min(side[1], columns)
    sums = cv2.integral(map_of)
    down, across = side
    boxes = sums[down:, across:] - sums[:-down, across:] - sums[down:, :-across]
    boxes = boxes + sums[:-down, :-across]
    top, left = np.unravel_index(int(boxes.argmax()), boxes.shape)
    return (
        min(round(int(top) * height / rows), max(0, height - PIECE)),
        min(round(int(left) * width / columns), max(0, width - PIECE)),
    )


def _piece(pixels: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    top, left = corner
    return _eight_bits(pixels[top : top + PIECE, left : left + PIECE])


def _heat(differences: np.ndarray) -> np.ndarray:
    """Draw differences in levels [H, W] as colours: black is none."""
    scaled = np.minimum(differences.astype(np.uint16) * 255 // BRIGHTEST, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _layer(label: str, small: np.ndarray, piece: np.ndarray | None) -> Layer:
    height, width = small.shape[:2]
    exact = None if piece is None else _uri(piece, lossless=True)
    return Layer(label, _uri(small, lossless=max(height, width) <= PIECE), exact, width, height)


def _uri(pixels: np.ndarray, *, lossless: bool) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", quality=_QUALITY, method=3, lossless=lossless)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def _name(row: Row) -> tuple[str, ...]:
    """Tell a row from the others, as text."""
    return tuple(plain(row.get(name) or "") for name in ("key", "recipe", "model"))


def _file_key(row: Row) -> str:
    """Give the key of the master's file, which its further pages have in theirs."""
    page = row["page"] or 1
    return row["key"] if page == 1 else row["key"].removesuffix(f"#page={page}")


def _from_ledger(ledger: Ledger, rows: Sequence[Row]) -> dict[tuple[str, ...], Row]:
    """Find rows as the ledger has them, where the table does not have all that is needed: where in
    its shard a master is, and names that are no text.
    """
    wanted = {_name(row) for row in rows if row.get("source_member") or "\\" in row["key"]}
    found: dict[tuple[str, ...], Row] = {}
    for path in sorted(ledger.committed()) if wanted else ():
        for row in ledger.read(path):
            if _name(row) in wanted:
                found[_name(row)] = row
        if len(found) == len(wanted):
            break
    return found


def title_of(row: Row) -> str:
    """Give the last part of a key, for people."""
    return posixpath.basename(row["key"]) or row["key"]
