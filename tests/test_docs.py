"""The documentation says what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

from transforms.degradations import DEGRADATIONS, families
from transforms.metrics import METRICS, SETS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def gallery():
    path = ROOT / "scripts" / "degradation_gallery.py"
    spec = importlib.util.spec_from_file_location("degradation_gallery", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_degradations_is_up_to_date(gallery):
    assert (ROOT / "docs" / "degradations.md").read_text("utf-8") == gallery.page(), "run make docs"
    for family in families():
        assert (ROOT / "docs" / "degradations" / f"{family}.jpg").exists(), "run make docs"


def test_the_readme_names_and_counts_every_degradation():
    text = (ROOT / "README.md").read_text("utf-8")
    missing = [name for name in DEGRADATIONS if f"`{name}`" not in text]
    assert not missing
    assert f"all {len(DEGRADATIONS)} of them" in text


def test_the_page_of_metrics_has_every_metric_and_set():
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    for name, metric in METRICS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert row.endswith("| ◐ |") == metric.regional
        if metric.reference:
            better = "nearer to 0" if metric.better == "zero" else metric.better
            assert f"| {better} |" in row
    for name in ("default", "colour"):
        assert f"| `{name}` | {' '.join(f'`{one}`' for one in SETS[name])} |" in page


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    ],
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target
