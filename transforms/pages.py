"""Pages of one file: records of their own between reading and writing, and one file again after.

A page is restored, scored and reported for itself. A file is written whole or not at all: if one of
its pages fails, all do.
"""

from collections.abc import Callable

from transforms.record import Batch, Record


class PageError(ValueError):
    """A page that cannot be written, because another page of its file has failed."""


def unfold(batch: Batch) -> Batch:
    """Put the records of further pages after those of their first pages."""
    if not any(record.further for record in batch.records):
        return batch
    records: list[Record] = []
    for record in batch.records:
        records += [record.replace(further=()), *record.further]
    return Batch(batch.id, tuple(records))


def fold(batch: Batch, joins: Callable[[Record], bool]) -> Batch:
    """Put the records of further pages back into those of their first pages.

    Args:
        batch: with the pages of each file in their order, one after another.
        joins: tells by a first page's record whether its file will hold all pages.
    """
    if all(record.page == 1 for record in batch.records):
        return batch
    files: list[list[Record]] = []
    for record in batch.records:
        if record.page == 1:
            files.append([record])
        else:
            files[-1].append(record)
    records: list[Record] = []
    for pages in files:
        if len(pages) == 1 or not joins(pages[0]):
            records += pages
            continue
        first, *further = _failing_together(pages)
        records.append(first.replace(further=tuple(further)))
    return Batch(batch.id, tuple(records))


def _failing_together(pages: list[Record]) -> list[Record]:
    broken = next((page for page in pages if page.failure), None)
    if broken is None or broken.failure is None:
        return pages
    reason = PageError(f"page {broken.page} of its file failed: {broken.failure.message}")
    stage = broken.failure.stage
    return [page if page.failure else page.failed(stage, reason) for page in pages]
