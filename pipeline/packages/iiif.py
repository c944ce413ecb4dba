"""IIIF Presentation 3.0: a manifest for each folder of the archive, and a collection of them.

A canvas is one image: its master first, the derivative second, as a Choice
(https://iiif.io/api/presentation/3.0/, https://iiif.io/api/cookbook/recipe/0033-choice/).
"""

import itertools
import json
import os
import posixpath
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from pipeline.ledger import QUARANTINED, Ledger, Row
from pipeline.packages.package import (
    Package,
    PackageError,
    Packaging,
    master,
    media_type,
    media_type_of,
    model_name,
    place,
    written,
)
from transforms.names import as_text

FOLDER = "iiif"
COLLECTION = f"{FOLDER}/collection.json"
MANIFEST = "manifest.json"
_CONTEXT = "http://iiif.io/api/presentation/3/context.json"

# What the second choice of a canvas is called, by the command; {model} and {recipe} are the row's.
_LABELS = {
    "restore": "Restored by {model}",
    "evaluate": "Damaged by {recipe}, restored by {model}",
    "degrade": "Damaged by {recipe}",
    "convert": "Copy",
}
_NOTICES = {
    "restore": "The first image of each view is the master. The second was made from it by an "
    "algorithm, the model that is named, and is no historical record.",
    "evaluate": "The first image of each view is the master. The second was damaged on purpose and "
    "restored by an algorithm, and is no historical record.",
    "degrade": "The first image of each view is the master. The second was damaged on purpose.",
    "convert": "Both images of each view are the same.",
}

Json = dict[str, Any]


def manifest(packaging: Packaging, folder: str, rows: Iterable[Row], facts: Json) -> Json:
    """Make the manifest of one folder.

    Args:
        packaging: how packages are made.
        folder: below the archive; empty for the archive itself.
        rows: of the ledger, with derivatives, in the order of the canvases.
        facts: what the ledger says the job was.
    """
    command = facts["command"]
    return {
        "@context": _CONTEXT,
        "id": _url(packaging, _manifest_path(folder)),
        "type": "Manifest",
        "label": {"none": [as_text(folder or _title(facts))]},
        "metadata": _metadata(
            {
                "Archive": ", ".join(facts.get("archives", ())),
                "Model": model_name(facts),
                "SHA-256 of the model": facts.get("model_sha256"),
                "Operator": packaging.operator,
            }
        ),
        "requiredStatement": {"label": _en("Notice"), "value": _en(_NOTICES[command])},
        "items": [_canvas(packaging, row, facts) for row in rows],
    }


def _canvas(packaging: Packaging, row: Row, facts: Json) -> Json:
    canvas = _url(packaging, f"{FOLDER}/canvas/{row['key']}")
    size = {"height": row["height"], "width": row["width"]}
    label = _LABELS[facts["command"]].format(model=model_name(facts), recipe=row["recipe"])
    original = {
        "id": f"{packaging.masters}/{_quoted(master(row))}",
        "type": "Image",
        "format": media_type_of(row["format"]),
        **size,
        "label": _en("Master"),
    }
    derivative = {
        "id": _url(packaging, place(row)),
        "type": "Image",
        "format": media_type(row["derivative"]),
        **size,
        "label": _en(label),
    }
    painting = {
        "id": f"{canvas}/annotation",
        "type": "Annotation",
        "motivation": "painting",
        "body": {"type": "Choice", "items": [original, derivative]},
        "target": canvas,
    }
    return {
        "id": canvas,
        "type": "Canvas",
        "label": {"none": [as_text(posixpath.basename(row["key"]))]},
        **size,
        "metadata": _metadata(
            {
                "SHA-256 of the master": row["source_sha256"],
                "SHA-256 of the derivative": row["derivative_sha256"],
                "Model": model_name(facts),
                "SHA-256 of the model": facts.get("model_sha256"),
                "Recipe": row["recipe"],
                "Warnings": "; ".join(row["warnings"]),
            }
        ),
        "items": [{"id": f"{canvas}/page", "type": "AnnotationPage", "items": [painting]}],
    }


def _metadata(pairs: Json) -> list[Json]:
    return [
        {"label": _en(label), "value": {"none": [as_text(value)]}}
        for label, value in pairs.items()
        if value
    ]


def _en(words: str) -> Json:
    return {"en": [as_text(words)]}


def _title(facts: Json) -> str:
    names = (posixpath.basename(str(archive).rstrip("/")) for archive in facts.get("archives", ()))
    return ", ".join(names) or "Archive"


def _manifest_path(folder: str) -> str:
    return "/".join(filter(None, (FOLDER, folder, MANIFEST)))


def _url(packaging: Packaging, path: str) -> str:
    return f"{packaging.served}/{_quoted(path)}"


def _quoted(path: str) -> str:
    return quote(os.fsencode(path))


def _tasks(packaging: Packaging) -> Iterator[str]:
    """All at once: what is in a folder is known when every batch has been read."""
    yield "all"


def _make(packaging: Packaging, task: str) -> str:
    ledger = Ledger(packaging.output)
    facts = (ledger.job() or {})["job"]
    rows = [row for row in written(ledger.rows()) if _shown(row)]
    rows.sort(key=lambda row: (_folder(row), row["key"]))
    made = []
    for folder, inside in itertools.groupby(rows, key=_folder):
        one = manifest(packaging, folder, inside, facts)
        ledger.write_result(_manifest_path(folder), _bytes(one))
        made.append({name: one[name] for name in ("id", "type", "label")})
    collection = {
        "@context": _CONTEXT,
        "id": _url(packaging, COLLECTION),
        "type": "Collection",
        "label": {"none": [as_text(_title(facts))]},
        "requiredStatement": {
            "label": _en("Notice"),
            "value": _en(_NOTICES[facts["command"]]),
        },
        "items": made,
    }
    ledger.write_result(COLLECTION, _bytes(collection))
    return str(len(made))


def _shown(row: Row) -> bool:
    """Say whether an image is published: it is sound, and has a size for its canvas."""
    return row["status"] != QUARANTINED and row["width"] is not None


def _folder(row: Row) -> str:
    return posixpath.dirname(row["derivative"])


def _bytes(one: Json) -> bytes:
    return json.dumps(one, indent=1, ensure_ascii=False).encode() + b"\n"


def _finish(packaging: Packaging, results: list[str]) -> None:
    """Nothing is left to do."""


def check(container: str | None) -> None:
    """Refuse what could not be shown.

    Raises:
        PackageError: derivatives are not files of their own.
    """
    if container is not None:
        raise PackageError(
            f"--package iiif needs images that are files of their own; leave out --output_format "
            f"{container}"
        )


IIIF = Package(FOLDER, _tasks, _make, _finish)
