"""The SavedModels that ship with Heliograph: one folder each, with a README.md as model card."""

from pathlib import Path

_HERE = Path(__file__).parent


def names() -> list[str]:
    """List the shipped models."""
    return sorted(found.parent.name for found in _HERE.glob("*/saved_model.pb"))


def path(name: str) -> Path:
    """Give the folder of a shipped model."""
    return _HERE / name


def summary(name: str) -> str:
    """Give the first sentence of a shipped model's card."""
    lines = (path(name) / "README.md").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines[1:] if line.strip())
