r"""Lists of images that are files of their own: a path or URI a line, or a column of a table.

A list is no container: what it names is read like any other file, so there is a `ListFormat` in
place of a `ShardFormat`. A text (.txt) is one path or URI a line as it is written, blanks
included; empty lines and those that begin with # are left out. A table (.csv, .tsv) has a header,
and what is beside the path is passed on as text. Both are UTF-8, with \n or \r\n.

The tables are those of RFC 4180, also with the semicolons that spreadsheets write where the comma
is in the numbers.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from transforms.shards.shard import ShardError
from transforms.shards.stream import BROKEN

# Where the column is not chosen.
_COLUMNS = ("uri", "url", "path", "file", "filename")

# What may be between two cells, by the extension; all other lists are text.
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}

_LONGEST = 1 << 17  # bytes of a line, and characters of a row
_HEAD = 512

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = "\ufeff"
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_UNDECODED = re.compile("[\udc80-\udcff]")
_ELSEWHERE = re.compile("(https?|ftps?)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a list.

    Attributes:
        uri: what it names, as it is written; a relative path is relative to the list. Nothing is
            promised of it where there is trouble.
        line: its number, from 1; of a row of several lines the first.
        fields: the other columns.
        trouble: why it cannot be taken.
    """

    uri: str
    line: int
    fields: Mapping[str, str] = field(default_factory=dict)
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class ListFormat:
    """How lists are read.

    Attributes:
        name: as `--format` calls it.
        extensions: that lists end in.
        looks_right: tells by the first 512 bytes of a file whether it may be one.
        targets: reads an open list with this extension, line by line. Raises ShardError for what
            is no list at all, or has no column of paths; a line that cannot be taken is listed
            with its trouble. What is named twice is listed twice.
    """

    name: str
    extensions: tuple[str, ...]
    looks_right: Callable[[bytes], bool]
    targets: Callable[[BinaryIO, str], Iterator[Listed]]


def list_format(column: str | None = None) -> ListFormat:
    """Describe lists whose tables have the paths in this column.

    None stands for the first that is called uri, url, path, file or filename.
    """
    return ListFormat(
        name="list",
        extensions=(".txt", *_DELIMITERS),
        looks_right=_looks_right,
        targets=partial(_targets, column=column),
    )


def _looks_right(head: bytes) -> bool:
    return not head.startswith(_UTF16) and not _BINARY.search(head)


def _targets(file: BinaryIO, extension: str, column: str | None) -> Iterator[Listed]:
    _check_head(file)
    delimiters = _DELIMITERS.get(extension.lower())
    for listed in _rows(file, delimiters, column) if delimiters else _lines(file):
        yield listed if listed.trouble else _checked(listed)


def _check_head(file: BinaryIO) -> None:
    try:
        head = file.read(_HEAD)
    except BROKEN as error:
        raise ShardError(f"the gzip around the list is damaged: {error}") from error
    file.seek(0)
    if head.startswith(_UTF16):
        raise ShardError("a list in UTF-16: save it as UTF-8")
    if not _looks_right(head):
        raise ShardError(f"not a list of images: it begins with {head[:16]!r}")
    if b"\r" in head and b"\n" not in head:
        raise ShardError(
            "a list whose lines end in carriage returns alone: save it with line feeds"
        )


def _checked(listed: Listed) -> Listed:
    """Say what is wrong with a line, if anything is."""
    reason = None
    if any(map(_UNDECODED.search, (listed.uri, *listed.fields.values()))):
        reason = "is not UTF-8: save the list as UTF-8"
    elif not listed.uri:
        reason = "names no file"
    elif found := _CONTROLS.search(listed.uri):
        reason = f"names a file with the control character {found.group()!r}"
    elif found := _ELSEWHERE.match(listed.uri):
        reason = f"cannot be read over {found.group()}: download it, and list the copy"
    return _troubled(listed.line, reason, listed.uri, listed.fields) if reason else listed


def _troubled(
    line: int, reason: str, uri: str = "", fields: Mapping[str, str] | None = None
) -> Listed:
    return Listed(uri, line, fields or {}, f"line {line} of the list {reason}")


# -- lines -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """A line with its end, or why there is none."""

    number: int
    text: str
    trouble: str | None = None


def _read(file: BinaryIO) -> Iterator[_Line]:
    number = 0
    try:
        while data := file.readline(_LONGEST):
            number += 1
            if len(data) == _LONGEST and not data.endswith(b"\n"):
                yield _Line(number, "", f"is longer than {_LONGEST:,} bytes")
                while len(data) == _LONGEST and not data.endswith(b"\n"):
                    data = file.readline(_LONGEST)
                continue
            text = data.decode("utf-8", "surrogateescape")
            yield _Line(number, text.removeprefix(_BOM) if number == 1 else text)
    except BROKEN as error:
        yield _Line(number + 1, "", f"and all behind it are lost, the gzip is damaged: {error}")


def _lines(file: BinaryIO) -> Iterator[Listed]:
    for line in _read(file):
        uri = line.text.removesuffix("\n").removesuffix("\r")
        if line.trouble:
            yield _troubled(line.number, line.trouble)
        elif uri.strip() and not uri.lstrip().startswith("#"):
            yield Listed(uri, line.number)


# -- tables ----------------------------------------------------------------------------------------


def _rows(file: BinaryIO, delimiters: str, column: str | None) -> Iterator[Listed]:
    lines = _read(file)
    first = next((line for line in lines if line.trouble or line.text.strip()), None)
    if first is None:
        return
    delimiter, header, index = _header(first, delimiters, column)
    for number, cells, trouble in _records(lines, delimiter):
        uri = cells[index] if index < len(cells) else ""
        if not trouble and len(cells) != len(header):
            trouble = f"has {len(cells)} cells, and the header {len(header)}"
        if trouble:
            yield _troubled(number, trouble, uri)
        else:
            fields = dict(zip(header, cells, strict=True))
            yield Listed(fields.pop(header[index]), number, fields)


def _header(line: _Line, delimiters: str, column: str | None) -> tuple[str, list[str], int]:
    """Give what is between two cells, the header, and which cell is the path."""
    if line.trouble:
        raise ShardError(f"not a list of images: line {line.number} {line.trouble}")
    for delimiter in delimiters:
        with suppress(csv.Error):
            header = next(csv.reader([line.text], delimiter=delimiter, strict=True))
            index = _find(header, _COLUMNS if column is None else (column,))
            if index is not None:
                if twice := [name for name in header if header.count(name) > 1]:
                    raise ShardError(f"a list with more than one column {twice[0]!r}")
                return delimiter, header, index
    wanted = column or f"{', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}"
    raise ShardError(f"a list without a column {wanted}: it begins with {line.text[:_HEAD]!r}")


def _find(header: list[str], names: tuple[str, ...]) -> int | None:
    for name in names:
        for index, cell in enumerate(header):
            if cell.strip().casefold() == name.casefold():
                return index
    return None


def _records(lines: Iterator[_Line], delimiter: str) -> Iterator[tuple[int, list[str], str | None]]:
    """Parse rows, of which one may be several lines: number of the first, cells, what is wrong.

    Where a quote is opened and not closed, the trouble is that line's, and the next is a row again.
    """
    again: deque[_Line] = deque()
    taken: list[_Line] = []

    def row() -> Iterator[str]:
        size = 0
        while line := again.popleft() if again else next(lines, None):
            taken.append(line)
            size += len(line.text)
            if line.trouble or size > _LONGEST:
                return  # in the middle of a row the parser will complain
            yield line.text

    while True:
        taken.clear()
        cells: list[str] = []
        trouble = None
        try:
            cells = next(csv.reader(row(), delimiter=delimiter, strict=True), cells)
        except csv.Error as error:
            trouble = f"is no row of a table: {error}"
        if not taken:
            return
        first = taken[0]
        if trouble:
            again.extendleft(reversed(taken[1:]))
        if trouble or first.trouble or any(map(str.strip, cells)):
            yield first.number, cells, first.trouble or trouble


FORMAT = list_format()
