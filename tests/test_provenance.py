"""What a derivative says of how it was made, and what becomes of what its master said."""

import hashlib
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from pipeline import job
from pipeline.cli import _parser
from tests import exiftool, jobs
from tests.photographs import gray, saved, small
from tests.test_metadata_bad import PACKET
from transforms import metadata
from transforms.codec import decode, decode_pages
from transforms.metadata import SOURCE_TYPES, Blocks, Origin, Provenance, Tool

URI = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TOOL = Tool("Heliograph 1", "algorithmicallyEnhanced", "restored", (("model", "denoise"),))
ORIGIN = Origin("album/ä & <b>.tif", "ab" * 32, (("recipe", 'x:"1"'),))
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
MM = "{http://ns.adobe.com/xap/1.0/mm/}"
STATED = "{http://ns.adobe.com/xap/1.0/sType/ResourceRef#}"
EVENT = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"
TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
OURS = "{urn:heliograph:xmp:1.0/}"
NAMESPACES = (
    'xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" '
    'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#" '
)


# What the signature of that model does not tell.
FILLING = (
    *("--mask_input", "mask", "--mask_values", "0,1", "--image_output", "restored"),
    *("--input_range", "0,1", "--output_range", "0,1"),
)


def packet(inside="", attributes=""):
    return PACKET.format(inside).replace("rdf:about", f"{NAMESPACES}{attributes} rdf:about")


def recorded(text, tool=TOOL, origin=ORIGIN):
    given = None if text is None else text.encode()
    found = metadata.recorded(Blocks(xmp=given), Provenance(tool, origin))
    assert found.warnings == ()
    return found.blocks.xmp.decode()


def the(root, name):
    """The only element of a name."""
    (element,) = root.iter(name)
    return element


def events(root):
    return [
        {field.tag.removeprefix(EVENT): field.text for field in event}
        for event in the(root, f"{MM}History").iter(f"{RDF}li")
    ]


@pytest.mark.parametrize("text", [None, packet(), packet("<dc:a>b</dc:a>")], ids=repr)
def test_source_type_master_and_history_are_said(text):
    root = ElementTree.fromstring(recorded(text))
    assert the(root, TYPE).text == URI + "algorithmicallyEnhanced"
    derived = the(root, f"{MM}DerivedFrom")
    assert derived.find(f"{STATED}instanceID").text == "urn:sha256:" + "ab" * 32
    assert derived.find(f"{STATED}filePath").text == "album/ä & <b>.tif"
    (event,) = events(root)
    assert event["action"] == "edited"
    assert event["softwareAgent"] == "Heliograph 1"
    assert event["parameters"] == 'restored; model=denoise; recipe=x:"1"'
    assert event["instanceID"] == the(root, f"{MM}InstanceID").text
    assert "when" not in event


def test_the_rest_of_a_packet_stays_byte_for_byte():
    text = packet("\n <!-- a comment -->\n<dc:a  xml:lang='x'>b &#233; c</dc:a>\n\n")
    said = recorded("\ufeff<?xpacket begin='' id=''?>\n" + text + "\n   \n<?xpacket end='w'?>")
    before, after = text.split("</rdf:RDF>")
    assert before in said
    assert said.endswith(f"</rdf:RDF>{after}\n   \n<?xpacket end='w'?>")


@pytest.mark.parametrize("form", ["elements", "attributes"])
def test_what_the_master_said_of_itself_is_kept_under_another_name(form):
    told = {"i:DigitalSourceType": URI + "print", "xmpMM:InstanceID": "xmp.iid:7"}
    if form == "elements":
        text = packet("".join(f"<{name}>{value}</{name}>" for name, value in told.items()))
    else:
        text = packet(attributes=" ".join(f'{name}="{value}"' for name, value in told.items()))
    root = ElementTree.fromstring(recorded(text))
    assert the(root, f"{OURS}MasterDigitalSourceType").text == URI + "print"
    assert the(root, f"{OURS}MasterInstanceID").text == "xmp.iid:7"
    assert the(root, TYPE).text == URI + "algorithmicallyEnhanced"
    assert len(list(root.iter(f"{MM}InstanceID"))) == 1
    assert all("InstanceID" not in name for element in root.iter() for name in element.attrib)


@pytest.mark.parametrize(
    "history",
    [
        "<xmpMM:History><rdf:Seq><rdf:li rdf:parseType='Resource'><stEvt:action>saved"
        "</stEvt:action></rdf:li></rdf:Seq></xmpMM:History>",
        "<xmpMM:History><rdf:Seq><rdf:li stEvt:action='saved'/></rdf:Seq></xmpMM:History>",
    ],
    ids=["elements", "attributes"],
)
def test_history_goes_on(history):
    root = ElementTree.fromstring(recorded(packet(history)))
    before, event = the(root, f"{MM}History").iter(f"{RDF}li")
    assert before.get(f"{EVENT}action") or before[0].text == "saved"
    assert event.find(f"{EVENT}action").text == "edited"


@pytest.mark.parametrize(
    "history",
    [
        "<xmpMM:History/>",
        "<xmpMM:History><rdf:Seq/></xmpMM:History>",
        "<xmpMM:History>x</xmpMM:History>",
    ],
)
def test_a_history_with_nothing_in_it_begins_anew(history):
    assert len(events(ElementTree.fromstring(recorded(packet(history))))) == 1


def test_a_derivative_of_a_derivative_tells_both_and_its_first_masters_word():
    first = recorded(packet(f"<i:DigitalSourceType>{URI}negativeFilm</i:DigitalSourceType>"))
    again = Tool("Heliograph 2", "compositeWithTrainedAlgorithmicMedia", "colours guessed")
    root = ElementTree.fromstring(recorded(first, again, Origin("b", "cd" * 32)))
    assert [event["softwareAgent"] for event in events(root)] == ["Heliograph 1", "Heliograph 2"]
    assert the(root, f"{OURS}MasterDigitalSourceType").text == URI + "negativeFilm"
    assert the(root, TYPE).text == URI + "compositeWithTrainedAlgorithmicMedia"
    derived = the(root, f"{MM}DerivedFrom")
    assert derived.find(f"{STATED}instanceID").text == "urn:sha256:" + "cd" * 32


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])
def test_a_packet_in_another_encoding_is_read(encoding):
    text = packet("<dc:a>Brücke</dc:a>")
    if encoding == "latin-1":
        text = '<?xml version="1.0" encoding="ISO-8859-1"?>' + text
    found = metadata.recorded(Blocks(xmp=text.encode(encoding)), Provenance(TOOL, ORIGIN))
    assert found.warnings == ()
    assert "Brücke" in found.blocks.xmp.decode("utf-8")
    assert ElementTree.fromstring(found.blocks.xmp) is not None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_orientation_that_xmp_alone_tells_is_applied_and_then_1(encoding):
    text = packet(attributes='xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"')
    blocks = Blocks(xmp=text.encode(encoding))
    assert metadata.orientation(blocks) == 6
    assert metadata.orientation(metadata.amended(blocks, 72, 96).blocks) == 1


def test_an_empty_rdf_is_filled():
    text = packet()
    start, stop = text.index("><rdf:Description"), text.index("</rdf:RDF>") + len("</rdf:RDF>")
    root = ElementTree.fromstring(recorded(text[:start] + "/>" + text[stop:]))
    (description,) = the(root, f"{RDF}RDF")
    assert the(description, TYPE).text == URI + "algorithmicallyEnhanced"


def test_a_format_that_is_told_is_the_derivatives():
    text = packet("<dc:format>image/tiff</dc:format>").encode()
    found = metadata.recorded(Blocks(xmp=text), Provenance(TOOL, ORIGIN, "PNG"))
    root = ElementTree.fromstring(found.blocks.xmp)
    assert the(root, "{http://purl.org/dc/elements/1.1/}format").text == "image/png"


def test_a_key_that_xml_cannot_hold_does_no_harm():
    root = ElementTree.fromstring(recorded(None, origin=Origin("a\0\x08\udcff]]>.jpg", "0" * 64)))
    path = the(root, f"{MM}DerivedFrom").find(f"{STATED}filePath").text
    assert path == "a\ufffd\ufffd\ufffd]]>.jpg"


# -- jobs ------------------------------------------------------------------------------------------


@pytest.fixture
def photographs_in(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "pier.jpg").write_bytes(saved(small(), "JPEG", quality=95))
    (folder / "gray.png").write_bytes(saved(gray(small()), "PNG"))
    return folder


def said(path):
    return ElementTree.fromstring(decode(path.read_bytes()).form.metadata.xmp)


@pytest.mark.parametrize(
    ("arguments", "term", "done"),
    [
        (("restore", "identity"), "algorithmicallyEnhanced", "restored by a trained model"),
        (
            ("restore", "constant_chroma"),
            "compositeWithTrainedAlgorithmicMedia",
            "colours guessed by a trained model",
        ),
        (("restore", "identity", "--digital_source_type", "print"), "print", "restored"),
        (
            ("evaluate", "identity", "--recipe", "gaussian_noise:1"),
            "algorithmicallyEnhanced",
            "test image: damaged on purpose, then restored by a trained model",
        ),
        (
            ("evaluate", "fill_with_mean", "--recipe", "mask:1", *FILLING),
            "compositeWithTrainedAlgorithmicMedia",
            "test image: damaged on purpose, then missing pixels filled in by a trained model",
        ),
        (
            ("degrade", None, "--recipe", "gaussian_noise:1"),
            "algorithmicallyEnhanced",
            "test image: damaged on purpose",
        ),
    ],
    ids=["restore", "colorize", "override", "evaluate", "inpaint", "degrade"],
)
def test_a_job_says_what_it_did(tmp_path, models, photographs_in, arguments, term, done):
    command, model, *options = arguments
    model = ("--model", models / model) if model else ()
    out = tmp_path / "out"
    ended = jobs.run(command, photographs_in, out, *model, *options, code=0)
    rows = {
        row["key"]: row
        for path in (out / "ledger" / "batches").glob("*.json")
        for row in json.loads(path.read_bytes())["rows"]
    }
    for name in ("pier.jpg", "gray.png"):
        root = said(out / "images" / name)
        assert the(root, TYPE).text == URI + term
        derived = the(root, f"{MM}DerivedFrom")
        assert derived.find(f"{STATED}filePath").text == name
        sha256 = derived.find(f"{STATED}instanceID").text
        assert sha256 == "urn:sha256:" + rows[name]["source_sha256"]
        (event,) = events(root)
        assert event["parameters"].startswith(done)
        if model:
            assert f"model_sha256={ended.summary['job']['model_sha256']}" in event["parameters"]
        if "--recipe" in options:
            assert f"recipe={rows[name]['recipe']}" in event["parameters"]
        assert rows[name]["warnings"] == []


def test_what_is_said_decides_the_jobs_digest(tmp_path, models, photographs_in):
    def digest(*options):
        model = ("--model", str(models / "identity"))
        line = ["restore", str(photographs_in), str(tmp_path / "out"), *model, *options]
        return job.make_job(_parser()[0].parse_args(line)).digest

    assert digest() == digest("--digital_source_type", "algorithmicallyEnhanced")
    assert digest() != digest("--digital_source_type", "print")


def test_each_page_of_a_master_says_how_it_was_made(tmp_path, models):
    archive = tmp_path / "archive"
    archive.mkdir()
    master = archive / "book.tif"
    tifffile.imwrite(master, np.stack([small(), small()[::-1]]), photometric="rgb")
    jobs.run("restore", archive, tmp_path / "out", "--model", models / "identity", code=0)
    pages = decode_pages((tmp_path / "out" / "images" / "book.tif").read_bytes())
    assert len(pages) == 2
    roots = [ElementTree.fromstring(page.form.metadata.xmp) for page in pages]
    digest = "urn:sha256:" + hashlib.sha256(master.read_bytes()).hexdigest()
    for root in roots:
        assert the(root, f"{MM}DerivedFrom").find(f"{STATED}instanceID").text == digest
    first, second = (the(root, f"{MM}InstanceID").text for root in roots)
    assert first != second
    assert events(roots[1])[0]["parameters"].endswith("page=2")


def test_images_that_are_passed_on_say_nothing_new(tmp_path, photographs_in):
    jobs.run("convert", photographs_in, tmp_path / "out", code=0)
    for name in ("pier.jpg", "gray.png"):
        passed_on = (tmp_path / "out" / "images" / name).read_bytes()
        assert passed_on == (photographs_in / name).read_bytes()


def test_source_types_are_those_that_iptc_has():
    # https://cv.iptc.org/newscodes/digitalsourcetype/ of 2024-10-23 lists 20, of which 3 are
    # retired: minorHumanEdits, softwareImage and digitalArt.
    assert len(set(SOURCE_TYPES)) == 17
    assert {"minorHumanEdits", "softwareImage", "digitalArt"}.isdisjoint(SOURCE_TYPES)


@exiftool.needed
def test_exiftool_reads_what_we_say(tmp_path):
    path = tmp_path / "a.jpg"
    made = metadata.recorded(Blocks(), Provenance(TOOL, ORIGIN)).blocks
    path.write_bytes(metadata.insert(saved(small(), "JPEG"), "JPEG", made)[0])
    (tags,) = exiftool.tags(path)
    assert tags["XMP-iptcExt:DigitalSourceType"] == URI + "algorithmicallyEnhanced"
    assert tags["XMP-xmpMM:DerivedFrom"] == {
        "InstanceID": "urn:sha256:" + "ab" * 32,
        "FilePath": "album/ä & <b>.tif",
    }
    (event,) = tags["XMP-xmpMM:History"]
    assert event["SoftwareAgent"] == "Heliograph 1"
    assert np.array_equal(decode(path.read_bytes()).pixels, decode(saved(small(), "JPEG")).pixels)
