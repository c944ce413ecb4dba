"""What comes of a training: the SavedModel with its contract and card, and a picture beside it."""

import logging
import shutil
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.export import export
from models.networks.table import Built
from pipeline import model_card
from pipeline.checkpoint import Progress
from pipeline.training_setup import Setup
from pipeline.validation import Validation
from transforms import storage

log = logging.getLogger("heliograph")


def write(
    setup: Setup,
    built: Built,
    validation: Validation,
    facts: Mapping[str, Any],
    progress: Progress,
    left_out: Counter[str],
    args: Namespace,
) -> Path:
    """Export the network, describe it and show what it does.

    Raises:
        storage.StorageError: it cannot be written; what was there is still there.
    """
    target = setup.target
    part = target.with_name(f".{target.name}.part")
    picture = target.with_name(f"{target.name}-validation.jpg")
    shutil.rmtree(part, ignore_errors=True)
    try:
        # Where it stops half-way there is no SavedModel, not half of one.
        export(built.model, part, built.contract, built.space)
        card = model_card.write(target.name, setup.network, facts, progress, left_out, args)
        (part / "README.md").write_text(card, encoding="utf-8")
        title = f"{args.network} on {setup.recipe}, images never trained on"
        storage.write(str(picture), validation.sheet(title), str(part))
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
    except OSError as error:
        reason = error.strerror or error
        raise storage.StorageError(f"cannot write {target} ({reason}): make room") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    log.info("the SavedModel: %s; side by side: %s", target, picture)
    return target
