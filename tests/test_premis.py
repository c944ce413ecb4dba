"""PREMIS documents: well-formed, in the order of the schema, with the values of the ledger."""

import datetime
import json
import os
from xml.etree import ElementTree as ET

import pytest

from pipeline.ledger import QUARANTINED, Ledger
from pipeline.packages import Packaging
from pipeline.packages.premis import document
from tests.jobs import run
from tests.photographs import saved, small
from tests.test_job import rows

NAMESPACES = {"premis": "http://www.loc.gov/premis/v3"}
VOCABULARY = "http://id.loc.gov/vocabulary/preservation"
NAME = "A < B & \"C\" 'D'.png"

# What https://id.loc.gov/vocabulary/preservation/eventType has, by its codes.
EVENT_TYPES = {
    "mes": "message digest calculation",
    "mod": "modification",
    "rep": "replication",
    "cre": "creation",
    "dsg": "digital signature generation",
    "val": "validation",
    "qua": "quarantine",
}

# The content models of the schema, in its order.
ORDER = {
    "premis": ["object", "event", "agent"],
    "object": [
        "objectIdentifier",
        "objectCharacteristics",
        "originalName",
        "relationship",
        "linkingEventIdentifier",
    ],
    "objectCharacteristics": ["fixity", "size", "format"],
    "fixity": ["messageDigestAlgorithm", "messageDigest", "messageDigestOriginator"],
    "relationship": ["relationshipType", "relationshipSubType", "relatedObjectIdentifier"],
    "event": [
        "eventIdentifier",
        "eventType",
        "eventDateTime",
        "eventDetailInformation",
        "eventOutcomeInformation",
        "linkingAgentIdentifier",
        "linkingObjectIdentifier",
    ],
    "agent": ["agentIdentifier", "agentName", "agentType", "agentVersion", "agentNote"],
}


@pytest.fixture(scope="module")
def output(tmp_path_factory, models):
    folder = tmp_path_factory.mktemp("archive")
    (folder / "in").mkdir()
    (folder / "in" / NAME).write_bytes(saved(small(), "PNG"))
    (folder / "broken.jpg").write_bytes(b"no image")
    output = tmp_path_factory.mktemp("premis") / "out"
    command = ("evaluate", folder, output, "--model", models / "identity", "--recipe", "mask:1")
    run(*command, "--package", "premis", "--operator", "A. Archivist & Daughters")
    return output


@pytest.fixture(scope="module")
def parsed(output):
    return ET.parse(output / "premis" / "in" / f"{NAME}.xml").getroot()


def find(element, path):
    return element.findall("/".join(f"premis:{name}" for name in path.split("/")), NAMESPACES)


def texts(element, path):
    return [one.text for one in find(element, path)]


def test_there_is_a_document_for_each_derivative_and_for_nothing_else(output):
    files = [path.relative_to(output / "premis") for path in output.glob("premis/**/*.xml")]
    assert [path.as_posix() for path in files] == [f"in/{NAME}.xml"]


def test_elements_are_those_of_the_schema_in_its_order(parsed):
    assert parsed.get("version") == "3.0"
    for element in parsed.iter():
        name = element.tag.partition("}")[2]
        assert element.tag.startswith("{http://www.loc.gov/premis/v3}")
        inside = [child.tag.partition("}")[2] for child in element]
        if name in ORDER:
            places = [ORDER[name].index(child) for child in inside]
            assert places == sorted(places)
        elif not inside:
            assert element.text


def test_objects_have_the_fixity_of_the_ledger_and_one_derives_from_the_other(output, parsed):
    row = rows(output)[f"in/{NAME}"]
    derivative, master = find(parsed, "object")
    for one, sha256, size in (
        (derivative, row["derivative_sha256"], row["derivative_bytes"]),
        (master, row["source_sha256"], row["source_bytes"]),
    ):
        assert texts(one, "objectCharacteristics/fixity/messageDigest") == [sha256]
        assert texts(one, "objectCharacteristics/size") == [str(size)]
        kind = "objectCharacteristics/format/formatDesignation/formatName"
        assert texts(one, kind) == ["image/png"]
        assert one.get("{http://www.w3.org/2001/XMLSchema-instance}type") == "premis:file"
    identifier = "objectIdentifier/objectIdentifierValue"
    assert texts(derivative, identifier) == [f"images/in/{NAME}"]
    assert texts(master, "originalName") == [row["source"]]
    related = "relationship/relatedObjectIdentifier/relatedObjectIdentifierValue"
    assert texts(derivative, related) == texts(master, identifier)
    (subtype,) = find(derivative, "relationship/relationshipSubType")
    assert (subtype.text, subtype.get("valueURI")) == (
        "has source",
        f"{VOCABULARY}/relationshipSubType/hss",
    )


def test_events_tell_what_was_done_by_what_and_whom(output, parsed):
    row, job = rows(output)[f"in/{NAME}"], json.loads((output / "ledger" / "job.json").read_text())
    events = find(parsed, "event")
    for event in events:
        (kind,) = find(event, "eventType")
        code = kind.get("valueURI").removeprefix(f"{VOCABULARY}/eventType/")
        assert kind.text == EVENT_TYPES[code]
    kinds = [texts(event, "eventType")[0] for event in events]
    digest, modification, _, digest_again, review = events
    assert kinds == [EVENT_TYPES[code] for code in ("mes", "mod", "cre", "mes", "val")]
    note = "eventOutcomeInformation/eventOutcomeDetail/eventOutcomeDetailNote"
    assert texts(digest, note) == [row["source_sha256"]]
    assert texts(digest_again, note) == [row["derivative_sha256"]]
    (done,) = texts(modification, "eventDetailInformation/eventDetail")
    assert row["recipe"] in done and job["job"]["model_sha256"] in done
    agents = texts(modification, "linkingAgentIdentifier/linkingAgentIdentifierValue")
    version = job["versions"]["heliograph"]
    sha256 = f"sha256:{job['job']['model_sha256']}"
    assert agents == [f"Heliograph {version}", sha256, "A. Archivist & Daughters"]
    assert f"psnr_rgb_restored {row['psnr_rgb_restored']:.6g}" in texts(review, note)[0]
    assert texts(review, "eventOutcomeInformation/eventOutcome") == ["success"]
    linked = texts(parsed, "object/linkingEventIdentifier/linkingEventIdentifierValue")
    assert linked == texts(parsed, "event/eventIdentifier/eventIdentifierValue")
    names = texts(parsed, "agent/agentName")
    assert names == ["Heliograph", "identity", "A. Archivist & Daughters"]
    assert texts(parsed, "agent/agentVersion") == [version, sha256]


def test_events_have_the_time_at_which_their_batch_was_committed(output, parsed):
    ledger = Ledger(str(output))
    (record,) = [path for path in ledger.committed() if ledger.read(path)[0]["derivative"]]
    committed = os.path.getmtime(record)
    for event in find(parsed, "event"):
        told = datetime.datetime.fromisoformat(texts(event, "eventDateTime")[0])
        assert told.tzinfo is not None
        assert 0 <= committed - told.timestamp() < 1


def made(output, further=(), **changes):
    ledger = Ledger(str(output))
    row = next(row for row in ledger.rows() if row["derivative"]) | changes
    packaging = Packaging(("premis",), "/out", "/out", "http://a", "http://a")
    when = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
    return ET.fromstring(document([row, *further], ledger.job(), packaging, when))


def test_what_was_quarantined_has_failed_its_review(output):
    failure = {"stage": "guard", "error": "Guard", "message": "luminance drifted by 7"}
    found = made(output, status=QUARANTINED, failure=failure)
    *_, review, quarantine = find(found, "event")
    assert texts(review, "eventOutcomeInformation/eventOutcome") == ["fail"]
    note = "eventOutcomeInformation/eventOutcomeDetail/eventOutcomeDetailNote"
    assert texts(review, note) == ["luminance drifted by 7"]
    assert texts(quarantine, "eventType") == ["quarantine"]
    identifier = texts(find(found, "object")[0], "objectIdentifier/objectIdentifierValue")
    assert identifier == [f"quarantine/in/{NAME}"]


def test_warnings_are_told_by_the_review(output):
    *_, review = find(made(output, warnings=["animation: the first of 3 frames"]), "event")
    assert texts(review, "eventOutcomeInformation/eventOutcome") == ["warning"]
    note = "eventOutcomeInformation/eventOutcomeDetail/eventOutcomeDetailNote"
    assert texts(review, note)[0].startswith("animation: the first of 3 frames")


def test_the_pages_of_a_file_are_told_in_one_document(output):
    (row,) = [row for row in Ledger(str(output)).rows() if row["derivative"]]
    second = row | {"page": 2, "key": "a.tif#page=2", "warnings": ["torn"], "metrics": {}}
    second["guards"] = {}
    first = {"page": 1, "key": "a.tif", "derivative": "a.tif", "metrics": {"ssim": 1}, "guards": {}}
    found = made(output, [second], **first)
    assert texts(found, "object/originalName") == ["a.tif", row["source"]]
    *_, review = find(found, "event")
    note = "eventOutcomeInformation/eventOutcomeDetail/eventOutcomeDetailNote"
    assert texts(review, note) == ["page 1: ssim 1; page 2: torn"]
    alone = made(output, page=2, key="a.tif#page=2", derivative="a.tif#page=2.png")
    assert texts(alone, "object/originalName") == ["a.tif", row["source"]]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("caf\udce9.png", "caf\\xe9.png"),  # of a file whose name is no UTF-8
        ("bell\x07 and \x1b.png", "bell\\x07 and \\x1b.png"),
        ("nothing \uffff.png", "nothing \\uffff.png"),
        ("\U0001f5bc ]]> é.png", "\U0001f5bc ]]> é.png"),
    ],
)
def test_any_name_of_a_file_is_told_in_xml(output, name, told):
    found = made(output, key=name, derivative=name)
    assert texts(found, "object/originalName")[0] == told
