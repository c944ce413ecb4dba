"""Contact sheets: rows of pictures side by side, with a word under each."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP = 12
_LINE = 26
_PAPER, _INK = (250, 249, 246), (30, 30, 30)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its name, and pictures (uint8 or uint16 [H, W, 1 or 3]) with captions."""

    name: str
    pictures: tuple[tuple[np.ndarray, str], ...]


def contact_sheet(rows: Sequence[Row], title: str, side: int = 400, quality: int = 90) -> bytes:
    """Lay out rows of pictures, each cut to its middle square, and encode them as JPEG.

    Args:
        rows: from the top; they may be of different lengths.
        title: written above.
        side: of the squares, in pixels.
        quality: of the JPEG, 1-100.
    """
    columns = max(len(row.pictures) for row in rows)
    width = columns * side + (columns + 1) * _GAP
    height = 2 * _LINE + len(rows) * (side + _LINE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _LINE // 2), title, _INK, ImageFont.load_default(20))
    small = ImageFont.load_default(16)
    for index, row in enumerate(rows):
        top = 2 * _LINE + index * (side + _LINE + _GAP)
        for column, (picture, caption) in enumerate(row.pictures):
            left = _GAP + column * (side + _GAP)
            sheet.paste(Image.fromarray(_square(picture, side)), (left, top))
            words = f"{row.name}, {caption}" if row.name and column == 0 else caption
            draw.text((left, top + side + 4), _fitting(words, small, side), _INK, small)
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _fitting(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Cut the beginning of a caption that is wider than its picture: names differ in their ends."""
    if font.getlength(words) <= width:
        return words
    while font.getlength("…" + words) > width:
        words = words[1:]
    return "…" + words


def _square(picture: np.ndarray, wanted: int) -> np.ndarray:
    """Cut the middle square at full size, or of a larger image shrunk; details must be seen."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side]
    if square.dtype == np.uint16:
        square = (square // 257).astype(np.uint8)
    method = cv2.INTER_AREA if side > wanted else cv2.INTER_CUBIC
    square = cv2.resize(square, (wanted, wanted), interpolation=method).reshape(wanted, wanted, -1)
    return np.repeat(square, 3, axis=-1) if square.shape[-1] == 1 else square
