"""The scores of images in all cells, side by side: columns of `metrics.parquet` as arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.rows import STATUSES
from transforms import storage
from transforms.measure import DEGRADED, GAIN, REGIONS, RESTORED, column_name
from transforms.metrics import METRICS, Metric
from transforms.metrics.perceptual import LPIPS, Lpips

ROWS = 1 << 16  # read together

_KNOWN = {**METRICS, LPIPS: Lpips("", "").metric}
_STATES = (DEGRADED, RESTORED, GAIN)


@dataclass(frozen=True, slots=True)
class Score:
    """A metric that says by how much a result is better; over the image, or a part of it.

    Attributes:
        name: as columns begin, `psnr_rgb`, and end, `mse_inside`.
        metric: what is known of it.
        region: "", or where a mask says.
        columns: those of the score before, after, and of the gain.
    """

    name: str
    metric: Metric
    region: str
    columns: tuple[str, str, str]

    @property
    def title(self) -> str:
        """What people call it."""
        title = self.metric.title
        return f"{title} {self.region} the mask" if self.region else title


@dataclass(frozen=True, slots=True)
class Grid:
    """Some of the images, whole, with all their cells.

    Attributes:
        keys: N of them, in their order.
        masters: SHA-256 of each one's master; None where it could not be read.
        first: bool [N], whether the image is the first page of its file.
        before: float64 [N, cells] by score: of the damaged image; NaN where the gain is.
        after: likewise: of the restored one.
        gain: likewise: by how much that is better; NaN where it is not defined.
        statuses: int64 [cells, statuses], how many rows are of each, in the order of `STATUSES`.
    """

    keys: list[str]
    masters: list[str | None]
    first: np.ndarray
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    gain: dict[str, np.ndarray]
    statuses: np.ndarray


def scores_in(names: Sequence[str]) -> list[Score]:
    """Find the scores among the names of columns."""
    here, found = set(names), []
    for name, metric in _KNOWN.items():
        for region in ("", *REGIONS):
            columns = tuple(column_name(name, state, region) for state in _STATES)
            if here.issuperset(columns):
                before, after, gain = columns
                full = "_".join(filter(None, (name, region)))
                found.append(Score(full, metric, region, (before, after, gain)))
    return found


def read_scores(path: str) -> list[Score]:
    """Find the scores in a `metrics.parquet`.

    Raises:
        StorageError: it cannot be read.
    """
    with storage.opened(path) as file:
        return scores_in(pq.read_schema(file).names)


def read_grids(
    path: str, cells: Sequence[str | None], scores: Sequence[Score], rows: int = ROWS
) -> Iterator[Grid]:
    """Read a `metrics.parquet`, whose rows are in the order of the keys.

    Args:
        path: of the file.
        cells: names of the job's cells; None alone of a job that has one.
        scores: which to read.
        rows: how many are in memory at a time, and those of one image more.

    Raises:
        StorageError: it cannot be read.
    """
    wanted = ["key", "page", "status", "source_sha256", "cell"]
    wanted += [column for score in scores for column in score.columns]
    rest: pa.Table | None = None
    with storage.opened(path) as file, pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=rows, columns=wanted):
            table = pa.Table.from_batches([batch])
            if rest is not None:
                table = pa.concat_tables([rest, table]).combine_chunks()
            starts = _starts(table["key"])
            last = int(starts[-1]) if len(starts) else 0
            rest = table.slice(last)
            if last:
                yield _grid(table.slice(0, last), starts[:-1], cells, scores)
    if rest is not None and len(rest):
        yield _grid(rest, np.zeros(1, np.int64), cells, scores)


def _starts(keys: pa.ChunkedArray) -> np.ndarray:
    """Tell where another key begins."""
    if not len(keys):
        return np.empty(0, np.int64)
    keys = keys.combine_chunks()
    other = pc.not_equal(keys.slice(1), keys.slice(0, len(keys) - 1))
    return np.concatenate([[0], 1 + np.flatnonzero(other.to_numpy(zero_copy_only=False))])


def _grid(
    table: pa.Table, starts: np.ndarray, cells: Sequence[str | None], scores: Sequence[Score]
) -> Grid:
    image = np.zeros(len(table), np.int64)
    image[starts[1:]] = 1
    image = np.cumsum(image)
    cell = np.zeros(len(table), np.int64)
    if len(cells) > 1:
        places = pc.index_in(table["cell"], value_set=pa.array(cells, pa.string()))
        cell = places.to_numpy().astype(np.int64)
    kinds = pc.index_in(table["status"], value_set=pa.array(STATUSES)).to_numpy().astype(np.int64)
    statuses = np.zeros((len(cells), len(STATUSES)), np.int64)
    np.add.at(statuses, (cell, kinds), 1)
    before, after, gain = {}, {}, {}
    for score in scores:
        three = []
        for column in score.columns:
            values = np.full((len(starts), len(cells)), np.nan)
            values[image, cell] = table[column].to_numpy()
            three.append(values)
        defined = np.isfinite(three[2])
        before[score.name], after[score.name], gain[score.name] = (
            np.where(defined, values, np.nan) for values in three
        )
    whole = table.take(pa.array(starts))
    return Grid(
        keys=whole["key"].to_pylist(),
        masters=whole["source_sha256"].to_pylist(),
        first=whole["page"].to_numpy() == 1,
        before=before,
        after=after,
        gain=gain,
        statuses=statuses,
    )
