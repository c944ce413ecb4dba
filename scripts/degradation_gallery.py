"""Make docs/degradations.md and its pictures from the table of degradations: `make docs`."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import skimage.data

from pipeline.contact_sheet import Row, contact_sheet
from transforms.degradations import Choice, Degradation, families, family_docs
from transforms.recipe import parse_recipe, written

DOCS = Path(__file__).parents[1] / "docs"
SIDE = 256
COLUMNS = 4

_HEAD = """\
# Degradations

Every way to hurt an image, for recipes: `name`, `name:severity` or `name:parameter=value,…`,
joined by `+` and read from left to right. `heliograph degrade --list` prints the same table,
`heliograph degrade --list NAME` one entry.

| a part of a recipe | what it does |
|---|---|
| `jpeg:3` | one degradation at a severity from 1 to 5 |
| `jpeg:quality=30` | with parameters; what is not said is at its default |
| `mask:2,shape=rectangles` | a severity, and parameters that count more |
| `oneof(fade:2,scratches:3+dust:2,snow:1)` | one of several recipes, each as likely |
| `random(2,severity=1-3)` | two different degradations of these severities, in any order |
| `random(2,severity=1-3,fade,dust,tears)` | the same, of those named |

`oneof` and `random` draw anew for every image, for training. The same seed, file and recipe give
the same damage in any batch, order and process. What was drawn for an image is in its row of
`metrics.parquet` (`recipe`); where pixels were taken away, the mask is in `OUTPUT/masks/`, white
where they are missing (`mask`).

They take images of any size, gray or RGB, of 8 or 16 bits; alpha stays as it is. What happens to
surfaces, in ageing and in capture is sized by the shorter side of the image; ImageNet-C is defined
in pixels, for images of about 224. Its severities are kept as published, also where one is milder
than the one before, by PSNR: above all 3 of `saturate` (twice the saturation after a tenth of it)
and 4 of `spatter` (mud after water), and by about a decibel at most some of `frost`, `fog`, `snow`,
`zoom_blur`, `defocus_blur` and `glass_blur`. All others are worse at every step.

The pictures are of scikit-image's astronaut (NASA, public domain), {side} pixels wide, with seed 0.
`make docs` makes this page.
"""


def page() -> str:
    """Write the page."""
    parts = [_HEAD.format(side=SIDE)]
    for family, entries in families().items():
        title, _, text = family_docs(family).partition("\n")
        parts.append(f"## {title.rstrip('.')}\n\n{text.strip()}\n" if text else f"## {title}\n")
        parts.append(f"![{title}](degradations/{family}.jpg)\n")
        parts += [_section(entry) for entry in entries]
    return "\n".join(parts)


def _section(entry: Degradation) -> str:
    lines = [f"### `{entry.name}`", "", entry.summary, ""]
    if entry.description:
        lines += [entry.description, ""]
    if entry.parameters:
        lines += [
            "| parameter | takes | at severities 1 to 5 | default | |",
            "|---|---|---|---|---|",
        ]
    for name, parameter in entry.parameters.items():
        at_severities = " ".join(map(written, parameter.severities or ()))
        default = written(entry.defaults[name]) if name in entry.defaults else ""
        meaning = entry.meanings.get(name, "").replace("|", "\\|")
        lines.append(f"| `{name}` | {parameter} | {at_severities} | {default} | {meaning} |")
    return "\n".join(lines).rstrip() + "\n"


def sheet(family: str, entries: list[Degradation], photograph: np.ndarray) -> bytes:
    """Draw a family: every degradation at severities 1, 3 and 5, and every word it takes."""
    rows = []
    for entry in entries:
        recipes = list(_shown(entry))
        pictures = [
            (photograph, "original"),
            *((_hurt(photograph, text), text) for text in recipes),
        ]
        for start in range(0, len(pictures), COLUMNS):
            rows.append(Row("", tuple(pictures[start : start + COLUMNS])))
    return contact_sheet(rows, title=family, side=SIDE, quality=85)


def _shown(entry: Degradation) -> Iterator[str]:
    if entry.has_severities:
        yield from (f"{entry.name}:{severity}" for severity in (1, 3, 5))
    severity = "3," if entry.has_severities else ""
    for name, parameter in entry.parameters.items():
        if isinstance(parameter, Choice):
            for word in parameter.words:
                if word != entry.defaults.get(name) or not severity:
                    yield f"{entry.name}:{severity}{name}={word}"


def _hurt(photograph: np.ndarray, recipe: str) -> np.ndarray:
    return parse_recipe(recipe).apply(photograph, seed=0, key="astronaut").pixels


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DOCS, help="(default: docs)")
    folder = parser.parse_args().folder
    photograph = cv2.resize(skimage.data.astronaut(), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    (folder / "degradations").mkdir(parents=True, exist_ok=True)
    (folder / "degradations.md").write_text(page(), "utf-8")
    for family, entries in families().items():
        picture = sheet(family, entries, photograph)
        (folder / "degradations" / f"{family}.jpg").write_bytes(picture)


if __name__ == "__main__":
    main()
