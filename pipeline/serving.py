"""Make a model ready for workers to load: found, searched, described; and tell a person of it."""

import argparse
import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from models import zoo
from models.contract import ContractError
from models.description import Description, describe
from models.keras_file import export_keras_file, is_keras_file
from models.safety import require_safe
from models.saved_model import digest, locate
from pipeline.contract_options import SAID, said_of_contract


@dataclass(frozen=True, slots=True)
class Served:
    """A model that workers can load.

    Attributes:
        given: what it was asked for by.
        given_sha256: the digest of that.
        model: a zoo name or the folder of a SavedModel, to load it by.
        sha256: the digest that workers must find there.
        description: its contract, and where that is from.
    """

    given: str
    given_sha256: str
    model: str
    sha256: str
    description: Description


def serve(model: str, args: argparse.Namespace) -> Served:
    """Find a model, search it, and put together its contract; export it if it is a .keras file.

    Args:
        model: a zoo name, or the path of a SavedModel or a .keras file.
        args: what is said of its contract, `contract` and `trust_model`.

    Raises:
        UnsafeModelError: its graph could do more than compute.
        ContractError: it is not there, or not what is said of it, or too little is said.
        StorageError: it is elsewhere and cannot be fetched.
    """
    if is_keras_file(model):
        folder = _exported(model)
        given_sha256 = digest(Path(model))
        description, sha256 = _described(Path(folder), Path(model).stem, True, args)
        return Served(model, given_sha256, folder, sha256, description)
    if "://" in model:
        from transforms import storage  # which brings Beam with it

        with storage.local_folder(model) as copy:
            path = locate(copy)
            description, sha256 = _described(path, Path(model).name, True, args)
    else:
        path = locate(model)
        name = path.resolve().name
        description, sha256 = _described(path, name, model not in zoo.names(), args)
    return Served(model, sha256, model, sha256, description)


def _described(
    path: Path, name: str, search: bool, args: argparse.Namespace
) -> tuple[Description, str]:
    if search and not args.trust_model:
        require_safe(path)
    return describe(path, said_of_contract(args), args.contract, name), digest(path)


def _exported(model: str) -> str:
    """Export a .keras file to a SavedModel that lasts as long as this process."""
    if "://" in model:
        raise ContractError(f"{model}: copy .keras files to this machine first")
    folder = tempfile.mkdtemp(prefix="heliograph-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = Path(folder, Path(model).stem)
    export_keras_file(Path(model), target)
    return str(target)


def list_models() -> None:
    """Print the shipped models, a line each."""
    for name in zoo.names():
        contract = describe(zoo.path(name)).contract
        print(f"{name}: {contract.input_space} to {contract.output_space}; {zoo.summary(name)}")


def show_model(args: argparse.Namespace) -> None:
    """Print a model's contract, and where each line of it is from; or, with `args.json`, the
    contract alone, as a contract file.

    Raises:
        ContractError, StorageError: see `serve`.
    """
    served = serve(args.model, args)
    description = served.description
    if args.json:
        print(description.contract.to_json(), end="")
        return
    searched = "its graph only computes"
    if args.model in zoo.names():
        searched = "shipped with Heliograph"
    elif args.trust_model:
        searched = "its graph was not searched (--trust_model)"
    print(f"{served.given}: {searched}\nsha256 {served.given_sha256}\n")
    fields = json.loads(description.contract.to_json())
    del fields["format"]
    rows = [
        (name, json.dumps(value), SAID[name].flags[0] if name in SAID else "")
        for name, value in fields.items()
    ]
    rows.insert(0, ("contract", "", "said by"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        print(*cells, description.origins.get(row[0], "is from"), sep="  ")
