"""What the footer of a Parquet file says of its row groups.

pyarrow tells it as well, but where the footer is damaged or a column encrypted, its accessors end
the process. It is a struct in Thrift's compact protocol, which hardly needs more than this.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from transforms.shards.shard import ShardError


@dataclass(frozen=True, slots=True)
class Chunk:
    """The values of one column in one row group.

    Attributes:
        path: names of the column, and of what it is in the column.
        size: bytes, uncompressed.
        stored: bytes, as they are in the file.
        dictionary: bytes of its dictionary as it is stored.
        nulls: how many values are null, as far as that is told.
        encrypted: whether it takes a key to read.
    """

    path: tuple[str, ...]
    size: int
    stored: int
    dictionary: int
    nulls: int
    encrypted: bool


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group: the number of its rows, and its columns."""

    rows: int
    chunks: tuple[Chunk, ...]


def row_groups(footer: bytes) -> list[RowGroup]:
    """Read a footer, the bytes between the pages and the footer's own length.

    Raises:
        ShardError: it is damaged.
    """
    try:
        return [
            RowGroup(_number(group, 3), tuple(map(_chunk, group[1])))
            for group in _Compact(footer).fields().get(4, ())
        ]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ShardError("the footer of the Parquet file is damaged") from error


def _chunk(column: dict[int, Any]) -> Chunk:
    about = column.get(3, {})
    return Chunk(
        path=tuple(part.decode("utf-8", "surrogateescape") for part in about.get(3, ())),
        size=_number(about, 6),
        stored=_number(about, 7),
        dictionary=max(0, _number(about, 9) - _number(about, 11)) if 11 in about else 0,
        nulls=_number(about.get(12, {}), 3),
        encrypted=8 in column,
    )


def _number(fields: dict[int, Any], field: int) -> int:
    """Give a number that is not negative, or 0 where there is none."""
    number = fields.get(field, 0)
    if not isinstance(number, int):
        raise ValueError("not a number")
    return max(0, number)


class _Compact:
    """Values one after the other; structs as dictionaries by the numbers of their fields."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fields(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self._integer()
            # A Boolean is in its field's type, but a byte of its own in a list.
            fields[number] = kind == 1 if kind in (1, 2) else self._read(kind)
        return fields

    def _read(self, kind: int) -> Any:
        return self._READERS[kind](self)

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise ValueError("longer than the footer")
        self._at += count
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("an integer of more than 64 bits")

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _list(self) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > len(self._data) - self._at:
            raise ValueError("more elements than bytes")
        return [self._read(head & 15) for _ in range(count)]

    # By the protocol's numbers of types, but for maps, of which Parquet has none.
    _READERS: ClassVar[dict[int, Callable[["_Compact"], Any]]] = {
        1: _byte,
        2: _byte,
        3: _byte,
        4: _integer,
        5: _integer,
        6: _integer,
        7: lambda self: self._bytes(8),
        8: lambda self: self._bytes(self._varint()),
        9: _list,
        10: _list,
        12: fields,
    }
