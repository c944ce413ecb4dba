"""Heliograph restores photographic archives with TensorFlow SavedModels on Apache Beam.

The public names, each imported when it is first used; `python -m heliograph` is the command.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Batch": "transforms.record",
    "BatchSpec": "transforms.record",
    "Contract": "models.contract",
    "ContractError": "models.contract",
    "Degrade": "transforms.degrade",
    "Guards": "transforms.guards",
    "Measure": "transforms.measure",
    "Read": "transforms.read",
    "ReadMasks": "transforms.masks",
    "Recipe": "transforms.recipe",
    "RecipeError": "transforms.recipe",
    "Record": "transforms.record",
    "Restore": "transforms.restore",
    "SavedModelHandler": "models.handler",
    "UnsafeModelError": "models.safety",
    "Write": "transforms.write",
    "Encoding": "transforms.write",
    "describe": "models.description",
    "export": "models.export",
    "make_plan": "pipeline.plan",
    "parse_recipe": "transforms.recipe",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'heliograph' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


def main() -> int:
    """Run the command line."""
    from pipeline.cli import main as run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
