"""Check what was asked for, and make a job of it."""

import argparse
import dataclasses
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import heliograph
from models import comparison
from models.contract import CONTRACT_FILE, ContractError
from models.description import flag
from models.saved_model import digest, resolve_precision
from pipeline import gate_options, gates, packages
from pipeline.archive import archive_root
from pipeline.contract_options import SAID, said_of_contract
from pipeline.drift import BaselineError, read_baseline
from pipeline.environment import cores
from pipeline.matrix import Applied, Matrix, MatrixError, distinct, make_matrix, split_models
from pipeline.options import BATCH_SIZE, FOLDER, IIIF_BASE, PICTURES, SHARD_SIZE, Job
from pipeline.packages import bag, iiif
from pipeline.plan import Budget
from pipeline.provenance import tool_of
from pipeline.scoreboard.gate import ScoreboardError, check_scoreboard, read_scoreboard
from pipeline.serving import Served, serve
from transforms import storage
from transforms.bounds import Bounds
from transforms.codec import DEFAULT_MAX_PIXELS, DEFAULT_QUALITY
from transforms.guards import GuardError, parse_guards
from transforms.metadata import Tool
from transforms.metrics import NONE, MetricError, choose
from transforms.metrics.perceptual import Lpips
from transforms.recipe import Recipe, RecipeError, parse_recipes
from transforms.restore import check_tile
from transforms.shards import Columns
from transforms.sign import Signing, SigningError, prepare
from transforms.write import Encoding

log = logging.getLogger("heliograph")

# Raised whenever the same job would write other bytes than before.
ALGORITHM = 2


class ExitCode(IntEnum):
    """How a job ended, for the shell and the scheduler."""

    OK = 0
    CRASHED = 1
    USAGE = 2
    INCOMPLETE = 3
    FIXITY = 4
    LOCKED = 75
    INTERRUPTED = 130


class JobError(ValueError):
    """A job that cannot be run as it was asked for, and what to do: nothing has been done yet."""


class JobCrashedError(RuntimeError):
    """A job that did not come to its end, and what is known of it."""


def make_job(args: argparse.Namespace) -> Job:
    """Check what was asked for and make a job of it.

    Raises:
        JobError: an unknown model, recipe or option value, or an output that would touch masters.
    """
    _refuse_credentials(args)
    try:
        said = getattr(args, "recipe", None)
        recipes = () if said is None else parse_recipes(said)
        named = getattr(args, "model", None)
        models = [] if named is None else split_models(named)
        _check_several(args, len(recipes), len(models))
        several = len(recipes) > 1 or len(models) > 1
        recipe = recipes[0] if recipes and not several else None
        image_format = getattr(args, "image_format", None)
        encoding = Encoding(
            image_format.upper() if image_format else None,
            getattr(args, "quality", DEFAULT_QUALITY),
            untouched=args.command == "convert",
            left_out=getattr(args, "no_images", False),
        )
        output_format = getattr(args, "output_format", FOLDER)
        container = None if output_format == FOLDER else output_format
        lpips = _find_lpips(args)
        metrics = choose(getattr(args, "metrics", NONE), reference=bool(recipes))
        budget = Budget(
            args.batch_size or (SHARD_SIZE if container else BATCH_SIZE),
            args.batch_bytes,
            getattr(args, "batch_pixels", sys.maxsize),  # `convert` decodes none
        )
        precision = resolve_precision(getattr(args, "precision", "auto"))
        max_pixels = getattr(args, "max_pixels", DEFAULT_MAX_PIXELS)
        columns = Columns(args.image_column, args.name_column)
        facts: dict[str, Any] = {
            "command": args.command,
            "algorithm": ALGORITHM,
            "recipe": ", ".join(one.canonical for one in recipes) if recipes else None,
            "seed": getattr(args, "seed", 0) if recipes else None,
            "metrics": list(metrics),
            "lpips_sha256": lpips.sha256 if lpips else None,
            "image_format": encoding.format,
            "quality": encoding.quality,
            "max_pixels": max_pixels,
            "columns": dataclasses.asdict(columns),
            "output_format": output_format,
        }
        if container:
            facts["budget"] = dataclasses.asdict(budget)  # which cuts the output's shards
        guards: dict[str, float] = {}
        packaging = _packaging(args, container)
        served = serve(models[0], args) if len(models) == 1 and not several else None
        if models:
            facts |= {"precision": precision}
            facts["guards"] = guards = parse_guards(args.guard)
        if served is not None:
            facts |= _model_facts(served, args)
        if encoding.left_out:
            facts["images"] = False
        matrix = None
        if several:
            matrix = _matrix(args, models, recipes, encoding, facts)
            facts |= _matrix_facts(matrix, models, args)
        tool = None if several else _tool(args, served, facts)
        if tool is not None:
            encoding = dataclasses.replace(encoding, tool=tool)
            facts["provenance"] = dataclasses.asdict(tool)
        signing = _signing(args, served, tool)
        if signing is not None:
            facts["certificate_sha256"] = signing.fingerprint
        scores = gates.scores_of(
            metrics,
            damages=bool(recipes),
            restores=bool(models),
            lpips=lpips is not None,
        )
        held = _gates(args, scores, facts)
    except (
        RecipeError,
        ContractError,
        GuardError,
        gates.GateError,
        BaselineError,
        MatrixError,
        MetricError,
        ScoreboardError,
        packages.PackageError,
        SigningError,
        storage.StorageError,
    ) as error:
        raise JobError(str(error)) from error
    for archive in args.archive:
        _keep_apart(archive, packaging.root)
    return Job(
        command=args.command,
        archives=tuple(args.archive),
        output=packaging.output,
        model=served.model if served else None,
        contract=served.description.contract if served else None,
        model_sha256=served.sha256 if served else None,
        trust_model=getattr(args, "trust_model", False),
        masks=getattr(args, "masks", None),
        precision=precision,
        threads=getattr(args, "threads", 1),
        tile=getattr(args, "tile", 0),
        recipe=recipe,
        seed=getattr(args, "seed", 0),
        guards=guards,
        metrics=metrics,
        lpips=lpips,
        encoding=encoding,
        container=container,
        shards=args.format,
        columns=columns,
        max_pixels=max_pixels,
        bounds=Bounds(args.max_bytes, args.max_members, args.follow_symlinks),
        budget=budget,
        workers=args.workers or cores(),
        overwrite=args.overwrite,
        retry=tuple(getattr(args, "retry", None) or ()),
        only=tuple(getattr(args, "only", None) or ()),
        limit=getattr(args, "limit", None),
        dry_run=getattr(args, "dry_run", False),
        no_wait=getattr(args, "no_wait", False),
        record_timeout=args.record_timeout,
        pictures=getattr(args, "pictures", PICTURES),
        operator=args.operator,
        verify_masters=args.verify_masters,
        packaging=packaging,
        signing=signing,
        digest=digest_of(facts),
        matrix=matrix,
        facts=facts,
        said=tuple(getattr(args, "said", ())),
        gates=held,
    )


def _check_several(args: argparse.Namespace, recipes: int, models: int) -> None:
    """Refuse several models or recipes where they have no meaning."""
    if recipes <= 1 and models <= 1:
        return
    if args.command != "evaluate":
        what = "models" if models > 1 else "recipes"
        raise MatrixError(f"several {what} are for `heliograph evaluate`; give one")
    if models > 1 and (said := _said_of_models(args)):
        raise MatrixError(
            f"{', '.join(said)} would be said of all {models} models: put each one's contract "
            f"into its folder as {CONTRACT_FILE} (`heliograph models PATH --json` prints it)"
        )
    if unfit := [name for name in getattr(args, "package", ()) if name != "bagit"]:
        raise MatrixError(
            f"--package {','.join(unfit)} tells of one derivative for each master; with several "
            "models or recipes there are more"
        )


def _said_of_models(args: argparse.Namespace) -> list[str]:
    said = {SAID[field].flags[0]: value for field, value in said_of_contract(args).items()}
    said["--contract"] = getattr(args, "contract", None)
    return [name for name, value in said.items() if value is not None]


def _matrix(
    args: argparse.Namespace,
    models: Sequence[str],
    recipes: Sequence[Recipe],
    encoding: Encoding,
    facts: dict[str, Any],
) -> Matrix:
    """Find several models, check each, and lay them out with the recipes."""
    served = [serve(model, args) for model in models]
    names = distinct(one.description.contract.name for one in served)
    applied = []
    for one, name in zip(served, names, strict=True):
        _model_facts(one, args)
        tool = _tool(args, one, facts)
        contract = one.description.contract
        own = dataclasses.replace(encoding, tool=tool)
        applied.append(Applied(name, one.model, contract, one.sha256, own, one.given_sha256))
    return make_matrix(applied, recipes)


def _matrix_facts(matrix: Matrix, given: Sequence[str], args: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": ",".join(given),
        "model_sha256": ", ".join(one.given_sha256 for one in matrix.models),
        "models": [
            {
                "name": one.name,
                "model_sha256": one.given_sha256,
                "contract": json.loads(one.contract.to_json()),
                "provenance": dataclasses.asdict(one.encoding.tool) if one.encoding.tool else None,
            }
            for one in matrix.models
        ],
        "tile": args.tile,
        "cells": [dataclasses.asdict(cell) for cell in matrix.cells],
    }


# What may name a place in an object store.
_PLACES = ("output", "model", "masks", "contract", "lpips", "baseline", "gate")
_SIGNED = re.compile(
    r"[?&][\w.-]*(sig|signature|token|key|credential|password|secret)[\w.-]*=", re.IGNORECASE
)


def _refuse_credentials(args: argparse.Namespace) -> None:
    """Refuse addresses with a user, a password or a signature in them: a ledger tells addresses.

    Raises:
        JobError: there is one; it is not told.
    """
    places = {"an ARCHIVE": args.archive, "--sign": getattr(args, "sign", None) or ()}
    places |= {f"--{name}": [getattr(args, name, None)] for name in _PLACES}
    for where, paths in places.items():
        for path in paths:
            if path is None or storage.is_local(path):
                continue
            if "@" in path.partition("://")[2].partition("/")[0] or _SIGNED.search(path):
                raise JobError(
                    f"the address of {where.replace('--output', 'OUTPUT')} holds credentials, "
                    "which a ledger would keep: give them in the environment, or by options of "
                    "the store (see docs/storage.md)"
                )


def _packaging(args: argparse.Namespace, container: str | None) -> packages.Packaging:
    """Say which packages are to be made, and where the results go for them."""
    names = getattr(args, "package", ())
    root = os.path.abspath(args.output) if storage.is_local(args.output) else args.output
    base = getattr(args, "iiif_base", None)
    if "iiif" in names:
        iiif.check(container)
        if base is None:
            log.warning(
                "addresses in %s begin with %s: say --iiif_base before you publish it",
                iiif.FOLDER,
                IIIF_BASE,
            )
    base = base or IIIF_BASE
    return packages.Packaging(
        names=names,
        root=root,
        output=storage.join(root, bag.PAYLOAD) if "bagit" in names else root,
        base=base,
        masters=getattr(args, "iiif_masters", None) or f"{base}/masters",
        operator=getattr(args, "operator", None),
    )


def _signing(args: argparse.Namespace, served: Served | None, tool: Tool | None) -> Signing | None:
    """Say how derivatives are to be signed, if they are."""
    if getattr(args, "sign", None) is None:
        return None
    assert tool is not None, "what restores says so"
    certificate, key = (
        os.path.abspath(path) if storage.is_local(path) else path for path in args.sign
    )
    contract = served.description.contract if served else None
    sha256 = served.given_sha256 if served else None
    software = ("Heliograph", heliograph.__version__)
    return prepare(certificate, key, software, contract, sha256, tool.source_type)


def _gates(args: argparse.Namespace, scores: set[str], facts: dict[str, Any]) -> gates.Gates:
    """Say what the results must reach; what is compared with is read before it is written over."""
    required = gate_options.requirements(args)
    gates.check(required, scores, args.command)
    baseline = getattr(args, "baseline", None)
    most = getattr(args, "max_drift", None)
    if most is not None and baseline is None:
        raise gates.GateError("--max_drift is measured from an earlier run: name it by --baseline")
    scoreboard = None
    if getattr(args, "gate", None) is not None:
        scoreboard = read_scoreboard(args.gate)
        check_scoreboard(scoreboard, facts, scores)
    return gates.Gates(
        required,
        read_baseline(baseline) if baseline else None,
        gate_options.MAX_DRIFT if most is None else most,
        scoreboard,
    )


def _find_lpips(args: argparse.Namespace) -> Lpips | None:
    """Check the model for LPIPS, if one is given."""
    path = getattr(args, "lpips", None)
    if path is None:
        return None
    trust = getattr(args, "trust_model", False)
    with storage.local_folder(path) as folder:
        comparison.describe(Path(folder), trust=trust)
        sha256 = digest(Path(folder))
    return Lpips(os.path.abspath(path) if storage.is_local(path) else path, sha256, trust)


def _tool(args: argparse.Namespace, served: Served | None, facts: dict[str, Any]) -> Tool | None:
    """Say what makes the derivatives, in words that are the same wherever the model is kept."""
    contract = served.description.contract if served else None
    told = {
        "model": contract.name if contract else None,
        "model_sha256": served.given_sha256 if served else None,
        "precision": facts.get("precision"),
        "seed": facts["seed"],
    }
    return tool_of(args, contract, {name: str(v) for name, v in told.items() if v is not None})


def digest_of(facts: Mapping[str, Any]) -> str:
    """Give the SHA-256 of what decides the derivatives, which a model's folder name and where the
    masters are do not.
    """
    deciding = {name: fact for name, fact in facts.items() if name not in ("model", "archives")}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _model_facts(served: Served, args: argparse.Namespace) -> dict[str, Any]:
    """Check how a model is to be run; give what the job's digest is to know of it."""
    contract = served.description.contract
    if assumed := served.description.assumed:
        values = ((flag(field), getattr(contract, field)) for field in assumed)
        taken = (f"no {name}" if value is None else f"{name}={value}" for name, value in values)
        log.info("%s has no contract; assumed: %s", contract.name, ", ".join(taken))
    try:
        check_tile(contract, args.tile)
    except ValueError as error:
        raise ContractError(
            f"--tile {args.tile} is too small for {contract.name}: {error}"
        ) from error
    masks = getattr(args, "masks", None)
    if masks is not None and contract.mask_input is None:
        raise ContractError(f"--masks is for models that take masks; {contract.name} takes none")
    if args.command == "restore" and masks is None and contract.mask_input is not None:
        raise ContractError(
            f"{contract.name} takes the mask of missing pixels with each image: name a folder of "
            "them with --masks"
        )
    return {
        "model": served.given,
        "model_sha256": served.given_sha256,
        "contract": json.loads(contract.to_json()),
        "tile": args.tile,
        "masks": masks,
    }


def _keep_apart(archive: str, output: str) -> None:
    """Refuse an output among the masters, and masters inside the output."""
    root = archive_root(archive)
    masters, derivatives = (
        (os.path.realpath(path) if storage.is_local(path) else path).rstrip("/").split("/")
        for path in (root, output)
    )
    shared = min(len(masters), len(derivatives))
    if masters[:shared] != derivatives[:shared]:
        return
    if len(masters) == len(derivatives):
        relation = "is the archive itself"
    elif len(masters) < len(derivatives):
        relation = "lies inside the archive"
    else:
        relation = "holds the archive"
    raise JobError(
        f"the output {output} {relation} ({archive}); masters are never written to: "
        "choose a folder outside it"
    )
