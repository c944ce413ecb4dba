"""Packages of what a job has written, made of its ledger and its files once both are whole."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import apache_beam as beam

from pipeline.ledger import Ledger
from pipeline.packages import bag
from pipeline.packages.bag import BAGIT
from pipeline.packages.iiif import IIIF
from pipeline.packages.package import Package, PackageError, Packaging
from pipeline.packages.premis import PREMIS
from transforms import storage

__all__ = ["FOLDERS", "PACKAGES", "MakePackages", "Package", "PackageError", "Packaging"]

# In the order in which they are made: a bag holds the others.
PACKAGES: Mapping[str, Package] = {"premis": PREMIS, "iiif": IIIF, "bagit": BAGIT}

FOLDERS = tuple(package.folder for package in PACKAGES.values() if package.folder)


def are_made(packaging: Packaging) -> bool:
    """Tell whether the packages that are asked for have been made, the same way."""
    if not packaging.names:
        return True
    made = Ledger(packaging.output).packages() == _facts(packaging)
    return made and ("bagit" not in packaging.names or bag.is_declared(packaging.root))


def are_there(output: str, names: Iterable[str]) -> bool:
    """Tell whether there is anything of each of several packages that have been made."""
    folders = [PACKAGES[name].folder for name in names if name in PACKAGES]
    return all(
        any(True for _ in storage.list_if_there(storage.join(output, folder)))
        for folder in folders
        if folder
    )


def _facts(packaging: Packaging) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(packaging)))


class MakePackages(beam.PTransform):
    """Make packages, one after the other, each on all workers.

    What can be done twice is done twice where a runner tries again: names depend on the ledger
    alone, and files are written whole.

    Args:
        packaging: which, and how.
    """

    def __init__(self, packaging: Packaging) -> None:
        super().__init__()
        self.packaging = packaging

    def expand(self, summarised: beam.PCollection[int]) -> beam.PCollection[int]:
        """Wait for the one number that says that the summary is there, and give it on."""
        packaging, facts = self.packaging, _facts(self.packaging)

        def note(number: int) -> int:
            ledger = Ledger(packaging.output)
            if not ledger.is_stopping:
                ledger.write_packages(facts)
            return number

        done = summarised
        for name, package in PACKAGES.items():
            if name == "bagit":  # which holds the note, and whose declaration tells of itself
                done |= "Note" >> beam.Map(note).with_output_types(int)
            if name in packaging.names:
                done |= name.upper() >> _MakePackage(packaging, package)
        return done


class _MakePackage(beam.PTransform):
    def __init__(self, packaging: Packaging, package: Package) -> None:
        super().__init__()
        self.packaging = packaging
        self.package = package

    def expand(self, done: beam.PCollection[int]) -> beam.PCollection[int]:
        packaging, package = self.packaging, self.package

        def tasks(_: int):
            if not Ledger(packaging.output).is_stopping:  # what is half done is no package
                yield from package.tasks(packaging)

        def finish(results: list[str]) -> int:
            if not Ledger(packaging.output).is_stopping:
                package.finish(packaging, results)
            return len(results)

        return (
            done
            | "Share out" >> beam.FlatMap(tasks).with_output_types(str)
            | beam.Reshuffle()
            | "Make" >> beam.Map(partial(package.make, packaging)).with_output_types(str)
            | beam.combiners.ToList()
            | "Finish" >> beam.Map(finish).with_output_types(int)
        )
