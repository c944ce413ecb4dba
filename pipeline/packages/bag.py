"""BagIt 1.0 bags (RFC 8493): OUTPUT itself is the bag, and what a job writes is its payload.

A bag is declared last, and undeclared before anything of it is touched: a folder that says it is a
bag is one.
"""

import datetime
import hashlib
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import heliograph
from pipeline.fixity import digest
from pipeline.ledger import LEDGER, Ledger
from pipeline.packages.package import (
    Package,
    PackageError,
    Packaging,
    model_name,
    place,
    written,
)
from transforms import storage
from transforms.names import as_text
from transforms.write import MASKS, SCRATCH

PAYLOAD = "data"
ALGORITHMS = ("sha256", "sha512")

DECLARATION = "bagit.txt"
INFO = "bag-info.txt"
MANIFESTS = tuple(f"manifest-{algorithm}.txt" for algorithm in ALGORITHMS)
TAG_MANIFESTS = tuple(f"tagmanifest-{algorithm}.txt" for algorithm in ALGORITHMS)
# In the order in which they go: without its declaration a folder is no bag.
TAG_FILES = (DECLARATION, *TAG_MANIFESTS, *MANIFESTS, INFO)

_DECLARED = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"

# Of one task.
_MOST_FILES, _MOST_BYTES = 256, 256 << 20
_BLOCK = 1 << 20
# So that the digests of one file are taken while another is waited for.
_THREADS = 4


def results_in(root: str) -> str | None:
    """Find the results of a job in an output folder: there, or in the payload of a bag."""
    for folder in (root, storage.join(root, PAYLOAD)):
        if storage.exists(storage.join(folder, LEDGER, "job.json")):
            return folder
    return None


def is_declared(root: str) -> bool:
    """Tell whether a folder says that it is a bag."""
    return storage.exists(storage.join(root, DECLARATION))


def undeclare(root: str) -> None:
    """Make a folder no bag, if it is one; its payload stays."""
    if is_declared(root):
        for name in TAG_FILES:
            storage.delete(storage.join(root, name))


def flaw(root: str) -> str | None:
    """Say why a folder that says it is a bag is no valid one; None where it is: its payload is what
    its manifest lists, and every file has the digest that it had.
    """
    try:
        tags = _listed(root, TAG_MANIFESTS[0])
        payload = _listed(root, MANIFESTS[0])
        start = len(root.rstrip("/")) + 1
        there = {
            path
            for file in storage.list_folder(storage.join(root, PAYLOAD))
            if not (path := file.path[start:]).startswith(f"{PAYLOAD}/{SCRATCH}/")
        }
        if differing := sorted(there ^ payload.keys()):
            return (
                f"{differing[0]} is not there"
                if differing[0] in payload
                else (f"{differing[0]} is not in its manifest")
            )
        with ThreadPoolExecutor(_THREADS) as pool:
            paths = [*tags, *payload]
            found = pool.map(lambda path: digest(storage.join(root, path)).sha256, paths)
            for path, now in zip(paths, found, strict=True):
                if now != {**tags, **payload}[path]:
                    return f"{path} is not what its manifest says"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _listed(root: str, manifest: str) -> dict[str, str]:
    """Read a manifest: the digests of files, by their paths below the bag."""
    found = {}
    for line in storage.read(storage.join(root, manifest)).decode().splitlines():
        sha256, _, path = line.partition("  ")
        for code, character in (("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
            path = path.replace(code, character)
        found[path] = sha256
    return found


def _tasks(packaging: Packaging) -> Iterator[str]:
    """Share out the payload: a list of paths below it, as JSON."""
    scratch = f"{SCRATCH}/"
    start = len(packaging.output.rstrip("/")) + 1
    share: list[str] = []
    size = 0
    for file in storage.list_folder(packaging.output):
        path = file.path[start:]
        if path.startswith(scratch):
            continue  # which the job removes at its end
        if share and (len(share) == _MOST_FILES or size + file.size > _MOST_BYTES):
            yield json.dumps(share)
            share, size = [], 0
        share.append(path)
        size += file.size
    if share:
        yield json.dumps(share)


def _make(packaging: Packaging, task: str) -> str:
    """Give path, bytes and digests of each file, as JSON."""
    paths = json.loads(task)
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(lambda path: _digests(storage.join(packaging.output, path)), paths)
        return json.dumps([[path, *found] for path, found in zip(paths, digests, strict=True)])


def _digests(path: str) -> tuple[int | str, ...]:
    """Give the bytes of a file and its digests, in one pass and in the memory of a block."""
    hashes = [hashlib.new(algorithm) for algorithm in ALGORITHMS]
    size = 0
    with storage.opened(path) as file:
        while block := file.read(_BLOCK):
            size += len(block)
            for one in hashes:
                one.update(block)
    return size, *(one.hexdigest() for one in hashes)


def _finish(packaging: Packaging, results: list[str]) -> None:
    files = sorted(itertools.chain.from_iterable(map(json.loads, results)))
    unknown = _compare(packaging, {path: sha256 for path, _, sha256, *_ in files})
    manifests = [
        "".join(f"{digests[index]}  {PAYLOAD}/{_path(path)}\n" for path, _, *digests in files)
        for index in range(len(ALGORITHMS))
    ]
    size = sum(size for _, size, *_ in files)
    tags = {
        DECLARATION: _DECLARED,
        INFO: _info(packaging, size, len(files), unknown).encode(),
        **dict(zip(MANIFESTS, (one.encode() for one in manifests), strict=True)),
    }
    of_tags = [
        "".join(f"{hashlib.new(kind, data).hexdigest()}  {name}\n" for name, data in tags.items())
        for kind in ALGORITHMS
    ]
    tags |= dict(zip(TAG_MANIFESTS, (one.encode() for one in of_tags), strict=True))
    for name in reversed(TAG_FILES):
        # In the payload's scratch folder, which the job removes at its end.
        scratch = storage.join(packaging.output, SCRATCH)
        storage.write(storage.join(packaging.root, name), tags[name], scratch=scratch)


def _compare(packaging: Packaging, found: dict[str, str]) -> int:
    """Hold digests to the ledger's; give the number of images and masks that it does not know."""
    known = dict(_in_ledger(packaging.output))
    for path, sha256 in known.items():
        if path not in found:
            raise PackageError(
                f"{storage.join(packaging.output, path)} is in the ledger but not there; say "
                "--retry damaged with the same command"
            )
        if sha256 is not None and found[path] != sha256:
            raise PackageError(
                f"{storage.join(packaging.output, path)} was changed after it was written: its "
                f"SHA-256 is {found[path]}, in the ledger {sha256}; say --retry damaged with the "
                "same command"
            )
    folders = tuple({f"{path.partition('/')[0]}/" for path in known})
    return sum(path.startswith(folders) and path not in known for path in found)


def _in_ledger(output: str) -> Iterator[tuple[str, str | None]]:
    """Give the path and the digest of every file that the ledger tells; a shard's is not there."""
    for row in written(Ledger(output).rows()):
        in_shard = row["shard"] is not None
        yield place(row), None if in_shard else row["derivative_sha256"]
        if row["mask"] is not None:
            mask = row["shard"] if in_shard else row["mask"]
            yield f"{MASKS}/{mask}", None if in_shard else row["mask_sha256"]


def _path(path: str) -> str:
    """Write a path as manifests have it: section 2.1.3."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise PackageError(
            f"the name {as_text(path)} is not UTF-8, and a bag's manifest cannot hold it: rename "
            "the master, or leave out --package bagit"
        ) from error
    return path.replace("%", "%25").replace("\n", "%0A").replace("\r", "%0D")


def _info(packaging: Packaging, size: int, count: int, unknown: int) -> str:
    """Write bag-info.txt. Its date is all in a bag that depends on time."""
    job = Ledger(packaging.output).job() or {}
    facts = job.get("job", {})
    tags = {
        "Bag-Software-Agent": f"Heliograph {heliograph.__version__}",
        "Bagging-Date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "Contact-Name": packaging.operator,
        "External-Description": _description(facts),
        "Internal-Sender-Identifier": job.get("digest"),
        "Internal-Sender-Description": "heliograph "
        + " ".join(f"{name}={value}" for name, value in _plain(facts).items()),
        "Payload-Oxum": f"{size}.{count}",
        "Files-Not-In-Ledger": unknown or None,
    }
    lines = (f"{name}: {' '.join(as_text(said).split())}\n" for name, said in tags.items() if said)
    return "".join(lines)


def _description(facts: dict) -> str:
    said = {
        "restore": "Photographs restored",
        "evaluate": "Photographs damaged on purpose and restored",
        "degrade": "Photographs damaged on purpose",
        "convert": "Photographs passed on without a change",
    }[facts.get("command", "convert")]
    model = f" by {model_name(facts)} (SHA-256 {facts['model_sha256']})" if "model" in facts else ""
    return f"{said}{model}, from {', '.join(facts.get('archives', ()))}"


def _plain(facts: dict) -> dict:
    plain = (str, int, float)
    return {name: value for name, value in facts.items() if isinstance(value, plain)}


BAGIT = Package(None, _tasks, _make, _finish)
