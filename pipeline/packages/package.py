"""What a package is: what all of them are made of, and the face that each of them has."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.ledger import QUARANTINED, Row
from transforms import codec
from transforms.write import IMAGES, SHARDS

QUARANTINE = "quarantine"

# By the names of `codec.FORMATS`. All but the last two are IANA's.
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "JPEG2000": "image/jp2",
    "JP2": "image/jp2",
    "PPM": "image/x-portable-anymap",
}
_UNKNOWN_TYPE = "application/octet-stream"


class PackageError(ValueError):
    """A package that cannot be made as it was asked for, and what to do."""


@dataclass(frozen=True, slots=True)
class Packaging:
    """What packages are made of, and how.

    Attributes:
        names: which packages: keys of `PACKAGES`.
        root: the output folder that was named.
        output: where the results are: `root`, or the payload folder in it of a bag.
        base: URL below which `root` is served.
        masters: URL below which the masters are served under their keys.
        operator: who answers for the job, if it was said.
    """

    names: tuple[str, ...]
    root: str
    output: str
    base: str
    masters: str
    operator: str | None = None

    @property
    def served(self) -> str:
        """The URL below which the results are served."""
        return self.base + self.output[len(self.root) :]


@dataclass(frozen=True, slots=True)
class Package:
    """How one kind of package is made, on any number of workers.

    Attributes:
        folder: below the output, all of which is the package's; None where it has none.
        tasks: what can be done apart from each other, as text.
        make: does one of them, and gives what `finish` is to know of it, as text.
        finish: writes what is made of all of them. The order in which they come is not defined.
    """

    folder: str | None
    tasks: Callable[[Packaging], Iterable[str]]
    make: Callable[[Packaging, str], str]
    finish: Callable[[Packaging, list[str]], None]


def place(row: Row) -> str:
    """Give the path below the output of the file that holds a row's derivative."""
    if row["shard"] is not None:
        return f"{SHARDS}/{row['shard']}"
    folder = QUARANTINE if row["status"] == QUARANTINED else IMAGES
    return f"{folder}/{row['derivative']}"


def master(row: Row) -> str:
    """Give the key of the file that a row's image is in: a further page's tells its number, too."""
    page = row.get("page", 1)
    return row["key"] if page == 1 else row["key"].removesuffix(f"#page={page}")


def written(rows: Iterable[Row]) -> Iterator[Row]:
    """Pick the rows that have a derivative."""
    return (row for row in rows if row["derivative"] is not None)


def model_name(facts: Mapping[str, Any]) -> str | None:
    """Give the model's name, or several, by what the ledger says of the job; None without one."""
    if "models" in facts:
        return ", ".join(one["name"] for one in facts["models"])
    return facts.get("contract", {}).get("name")


def media_type(name: str) -> str:
    """Give the media type of an image file by its extension."""
    extension = name[name.rfind(".") :].lower()
    return media_type_of(codec.EXTENSIONS.get(extension))


def media_type_of(image_format: str | None) -> str:
    """Give the media type of one of `codec.FORMATS`."""
    return MEDIA_TYPES.get(image_format or "", _UNKNOWN_TYPE)
