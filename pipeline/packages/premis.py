"""PREMIS 3.0: an XML document for each derivative, of what it is, what was done, and by whom.

Terms and their URIs are the Library of Congress' (https://id.loc.gov/vocabulary/preservation.html);
the order of elements is that of the schema of https://www.loc.gov/standards/premis/v3/.
"""

import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from pipeline.ledger import QUARANTINED, Ledger, Row
from pipeline.packages.package import (
    Package,
    Packaging,
    master,
    media_type,
    media_type_of,
    model_name,
    place,
    written,
)
from transforms import storage
from transforms.names import as_text
from transforms.write import SCRATCH

FOLDER = "premis"
NAMESPACE = "http://www.loc.gov/premis/v3"
_SCHEMA = f"{NAMESPACE} http://www.loc.gov/standards/premis/premis.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
ET.register_namespace("premis", NAMESPACE)
_VOCABULARY = "http://id.loc.gov/vocabulary/preservation"

# A term of one of the vocabularies, its code there, and the term itself.
_TERMS = {
    ("eventType", "mes"): "message digest calculation",
    ("eventType", "mod"): "modification",
    ("eventType", "rep"): "replication",
    ("eventType", "cre"): "creation",
    ("eventType", "dsg"): "digital signature generation",
    ("eventType", "val"): "validation",
    ("eventType", "qua"): "quarantine",
    ("eventOutcome", "suc"): "success",
    ("eventOutcome", "fai"): "fail",
    ("eventOutcome", "war"): "warning",
    ("eventRelatedAgentRole", "exe"): "executing program",
    ("eventRelatedAgentRole", "val"): "validator",
    ("eventRelatedAgentRole", "imp"): "implementer",
    ("eventRelatedObjectRole", "sou"): "source",
    ("eventRelatedObjectRole", "out"): "outcome",
    ("agentType", "sof"): "software",
    ("agentType", "per"): "person",
    ("relationshipType", "der"): "derivation",
    ("relationshipSubType", "hss"): "has source",
    ("cryptographicHashFunctions", "sha256"): "SHA-256",
}

_WRITERS = 4

# An element's name, and what it holds: text, a term, or elements.
_Node = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class _Event:
    """One event: its type, what was done, how it ended, and the objects in it, by their roles."""

    kind: str
    detail: str
    outcome: str
    note: str
    objects: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Known:
    """What a document is made of: the rows of its pages, the job, and when their batch was
    committed.
    """

    rows: Sequence[Row]
    job: dict[str, Any]
    packaging: Packaging
    committed: str

    @property
    def row(self) -> Row:
        """The first page's: what it tells of the file is true of all of them."""
        return self.rows[0]

    @property
    def facts(self) -> dict[str, Any]:
        """What entered the job's digest."""
        return self.job.get("job", {})

    @property
    def software(self) -> str:
        """The name that the software has as an agent."""
        return f"Heliograph {self.job.get('versions', {}).get('heliograph', '')}".strip()

    @property
    def model(self) -> str | None:
        """The name that the model has as an agent: its digest; None without one."""
        sha256 = self.facts.get("model_sha256")
        return sha256 and f"sha256:{sha256}"

    @property
    def master(self) -> str:
        """The master's identifier."""
        return f"master: {master(self.row)}"

    @property
    def derivative(self) -> str:
        """The derivative's identifier: its path below the output."""
        inside = f"#{self.row['member']}" if self.row["shard"] is not None else ""
        return place(self.row) + inside


def document(
    rows: Sequence[Row], job: dict[str, Any], packaging: Packaging, committed: datetime.datetime
) -> bytes:
    """Make the PREMIS document of one derivative.

    Args:
        rows: of the ledger: the one of it, or those of its pages.
        job: what the ledger says of the job.
        packaging: how packages are made.
        committed: when the batch was that the derivative is of, which is the time of its events.

    Returns:
        XML in UTF-8. The same rows, job and time give the same bytes.
    """
    known = _Known(rows, job, packaging, committed.isoformat(timespec="seconds"))
    events = [_event(known, number, event) for number, event in enumerate(_events(known), 1)]
    root = ET.Element(f"{{{NAMESPACE}}}premis", {"version": "3.0"})
    root.set(f"{{{_XSI}}}schemaLocation", _SCHEMA)
    for name, content in (*_objects(known, len(events)), *events, *_agents(known)):
        _add(root, name, content)
    for one in root.findall(f"{{{NAMESPACE}}}object"):
        one.set(f"{{{_XSI}}}type", "premis:file")
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _add(parent: ET.Element, name: str, content: Any) -> None:
    element = ET.SubElement(parent, f"{{{NAMESPACE}}}{name}")
    if isinstance(content, list):
        for node in content:
            if node is not None:
                _add(element, *node)
    elif isinstance(content, tuple):
        vocabulary, code = content
        element.set("authority", vocabulary)
        element.set("authorityURI", f"{_VOCABULARY}/{vocabulary}")
        element.set("valueURI", f"{_VOCABULARY}/{vocabulary}/{code}")
        element.text = _TERMS[content]
    else:
        element.text = as_text(content)


def _objects(known: _Known, events: int) -> Iterator[_Node]:
    row = known.row
    linked: list[_Node] = [
        ("linkingEventIdentifier", _identifier("linkingEvent", _event_id(known, number)))
        for number in range(1, events + 1)
    ]
    related: list[_Node] = [
        ("relationshipType", ("relationshipType", "der")),
        ("relationshipSubType", ("relationshipSubType", "hss")),
        ("relatedObjectIdentifier", _identifier("relatedObject", known.master)),
    ]
    yield (
        "object",
        [
            ("objectIdentifier", _identifier("object", known.derivative)),
            _characteristics(
                row["derivative_sha256"], row["derivative_bytes"], media_type(row["derivative"])
            ),
            ("originalName", master(row)),
            ("relationship", related),
            *linked,
        ],
    )
    yield (
        "object",
        [
            ("objectIdentifier", _identifier("object", known.master)),
            _characteristics(
                row["source_sha256"], row["source_bytes"], media_type_of(row["format"])
            ),
            ("originalName", row["source"]),
        ],
    )


def _characteristics(sha256: str | None, size: int | None, kind: str) -> _Node:
    fixity: list[_Node] = [
        ("messageDigestAlgorithm", ("cryptographicHashFunctions", "sha256")),
        ("messageDigest", sha256),
        ("messageDigestOriginator", "Heliograph"),
    ]
    return (
        "objectCharacteristics",
        [
            ("fixity", fixity) if sha256 else None,
            ("size", size) if size is not None else None,
            ("format", [("formatDesignation", [("formatName", kind)])]),
        ],
    )


def _identifier(of: str, value: str) -> list[_Node]:
    return [(f"{of}IdentifierType", "local"), (f"{of}IdentifierValue", value)]


def _events(known: _Known) -> Iterator[_Event]:
    """Tell what happened to the master and the derivative, in its order."""
    row, facts = known.row, known.facts
    source, outcome = {"sou": known.master}, {"out": known.derivative}
    if row["source_sha256"]:
        detail = "SHA-256 of the master, as it was read"
        yield _Event("mes", detail, "suc", row["source_sha256"], source)
    kind, done = _DONE[facts.get("command", "convert")]
    yield _Event(kind, done(known), "suc", _of_pages(known, _warned), source | outcome)
    yield _Event("cre", "the derivative was written", "suc", "", source | outcome)
    if row.get("signed"):
        detail = f"C2PA manifest, by the certificate {facts.get('certificate_sha256')}"
        yield _Event("dsg", detail, "suc", "", outcome)
    sha256 = row["derivative_sha256"]
    yield _Event("mes", "SHA-256 of the derivative, before it was written", "suc", sha256, outcome)
    if any(page["status"] == QUARANTINED for page in known.rows):
        reason = _of_pages(known, _reason)
        yield _Event("val", "quality review", "fai", reason, outcome)
        yield _Event("qua", "kept apart from the other derivatives", "suc", reason, outcome)
    else:
        how = "war" if _of_pages(known, _warned) else "suc"
        yield _Event("val", "quality review", how, _of_pages(known, _reviewed), outcome)


def _restored(known: _Known) -> str:
    facts = known.facts
    return (
        f"restored by the model {model_name(facts)} ({known.model}), precision "
        f"{facts.get('precision')}, windows of {facts.get('tile')} pixels"
    )


def _damaged(known: _Known) -> str:
    return f"damaged on purpose: {known.row['recipe']}, seed {known.facts.get('seed')}"


def _passed_on(known: _Known) -> str:
    return "passed on as it is"


def _damaged_and_restored(known: _Known) -> str:
    return f"{_damaged(known)}; {_restored(known)}"


# The type of event that each command is, and what it says of it.
_DONE: Mapping[str, tuple[str, Callable[[_Known], str]]] = {
    "restore": ("mod", _restored),
    "evaluate": ("mod", _damaged_and_restored),
    "degrade": ("mod", _damaged),
    "convert": ("rep", _passed_on),
}


def _of_pages(known: _Known, tell: Callable[[Row], str]) -> str:
    """Tell something of a file: of its one image, or of each page that there is anything of."""
    if len(known.rows) == 1:
        return tell(known.row)
    told = ((row.get("page", 1), tell(row)) for row in known.rows)
    return "; ".join(f"page {page}: {what}" for page, what in told if what)


def _reason(row: Row) -> str:
    return row.get("failure", {}).get("message", "")


def _warned(row: Row) -> str:
    return "; ".join(row["warnings"])


def _reviewed(row: Row) -> str:
    groups = (("", row["metrics"]), ("guard ", row.get("guards", {})))
    told = [
        f"{prefix}{name} {value:.6g}"
        for prefix, scores in groups
        for name, value in sorted(scores.items())
        if value is not None
    ]
    return "; ".join([*row["warnings"], *told])


def _event_id(known: _Known, number: int) -> str:
    return f"{known.job.get('digest', '')}/{known.derivative}/{number}"


def _event(known: _Known, number: int, event: _Event) -> _Node:
    agents = [(known.software, "val" if event.kind == "val" else "exe")]
    if event.kind == "mod" and known.model:
        agents.append((known.model, "exe"))
    if known.packaging.operator:
        agents.append((known.packaging.operator, "imp"))
    note = [("eventOutcomeDetail", [("eventOutcomeDetailNote", event.note)])] if event.note else []
    return (
        "event",
        [
            ("eventIdentifier", _identifier("event", _event_id(known, number))),
            ("eventType", ("eventType", event.kind)),
            ("eventDateTime", known.committed),
            ("eventDetailInformation", [("eventDetail", event.detail)]),
            (
                "eventOutcomeInformation",
                [("eventOutcome", ("eventOutcome", event.outcome)), *note],
            ),
            *(
                (
                    "linkingAgentIdentifier",
                    [
                        *_identifier("linkingAgent", name),
                        ("linkingAgentRole", ("eventRelatedAgentRole", role)),
                    ],
                )
                for name, role in agents
            ),
            *(
                (
                    "linkingObjectIdentifier",
                    [
                        *_identifier("linkingObject", name),
                        ("linkingObjectRole", ("eventRelatedObjectRole", role)),
                    ],
                )
                for role, name in event.objects.items()
            ),
        ],
    )


def _agents(known: _Known) -> Iterator[_Node]:
    versions = known.job.get("versions", {})
    beside = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield _agent(known.software, "Heliograph", "sof", versions.get("heliograph"), beside)
    if known.model:
        name = model_name(known.facts)
        yield _agent(known.model, name, "sof", known.model, "TensorFlow SavedModel")
    if known.packaging.operator:
        yield _agent(known.packaging.operator, known.packaging.operator, "per", None, None)


def _agent(
    identifier: str, name: str | None, kind: str, version: str | None, note: str | None
) -> _Node:
    return (
        "agent",
        [
            ("agentIdentifier", _identifier("agent", identifier)),
            ("agentName", name),
            ("agentType", ("agentType", kind)),
            ("agentVersion", version) if version else None,
            ("agentNote", note) if note else None,
        ],
    )


def _tasks(packaging: Packaging) -> Iterator[str]:
    """Share out the commit records."""
    for file in sorted(Ledger(packaging.output).committed()):
        yield json.dumps(file)


def _make(packaging: Packaging, task: str) -> str:
    """Write the documents of one batch."""
    ledger = Ledger(packaging.output)
    path = json.loads(task)
    file = storage.find_file(path)
    modified = file.modified if file else 0.0
    committed = datetime.datetime.fromtimestamp(modified, datetime.UTC)
    job = ledger.job() or {}
    scratch = storage.join(packaging.output, SCRATCH)

    files: dict[str, list[Row]] = {}
    for row in written(ledger.read(path)):
        files.setdefault(row["derivative"], []).append(row)

    def write(name: str) -> None:
        data = document(files[name], job, packaging, committed)
        storage.write(storage.join(packaging.output, FOLDER, f"{name}.xml"), data, scratch=scratch)

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write, files))
    return str(len(files))


def _finish(packaging: Packaging, results: list[str]) -> None:
    """Nothing is made of all documents together."""


PREMIS = Package(FOLDER, _tasks, _make, _finish)
