"""Hostile, broken and oversized metadata: bounded, kept or named, and never in the image's way."""

import base64
import hashlib
import random
import re
import struct
import time
import zlib
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests import exiftool
from tests.photographs import opened, saved, small
from tests.test_codec_metadata import chunk
from tests.test_metadata import FORMATS, canon_exif, plain
from transforms import codec, metadata
from transforms.codec import decode, encode
from transforms.metadata import Blocks, Origin, Provenance, Resolution, Tool
from transforms.metadata.tiff import tags

MADE = Provenance(
    Tool("Heliograph", "algorithmicallyEnhanced", "restored"), Origin("a.jpg", "0" * 64)
)
PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">{}'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
EXTERNAL = '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>' + PACKET.format(
    "<dc:source>&secret;</dc:source>"
)
LAUGHS = "<!DOCTYPE x [<!ENTITY a0 'ha'>{}]>{}".format(
    "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)),
    PACKET.format("<dc:source>&a11;</dc:source>"),
)


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg_with(*segments):
    data = saved(small(), "JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def through(data, name=None):
    """Decode and encode, with provenance as a job adds it; give derivative and all warnings."""
    decoded = decode(data)
    told = metadata.recorded(decoded.form.metadata, MADE)
    warnings = [*decoded.warnings, *told.warnings]
    form = codec.Form(format=decoded.form.format, mode=decoded.form.mode, metadata=told.blocks)
    derivative = encode(form, decoded.pixels, name=name, warnings=warnings)
    assert np.array_equal(np.asarray(opened(data).convert("RGB")), decoded.pixels)
    opened(derivative).load()
    return derivative, warnings


def test_60_kilobytes_of_garbage_in_place_of_exif_are_said_and_carried_as_they_are():
    garbage = random.Random(1).randbytes(60_000)
    derivative, (warning,) = through(jpeg_with(segment(0xE1, b"Exif\0\0" + garbage)))
    assert "EXIF cannot be read" in warning
    assert garbage in derivative


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")  # Pillow's
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_that_begins_well_and_is_garbage_is_bounded(order):
    garbage = random.Random(2).randbytes(60_000)
    block = canon_exif(order)[:8] + struct.pack(f"{order}H", 65535) + garbage
    started = time.monotonic()
    _, warnings = through(jpeg_with(segment(0xE1, b"Exif\0\0" + block)))
    assert time.monotonic() - started < 5
    assert any("some of EXIF cannot be read" in said for said in warnings)


def circle():
    """Directories that contain and follow each other for ever."""
    entries = struct.pack("<HHII", 274, 3, 1, 6) + struct.pack("<HHII", 34665, 4, 1, 8)
    return b"II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 8)


@pytest.mark.parametrize("name", FORMATS)
def test_exif_that_leads_in_a_circle_ends(name):
    data = jpeg_with(segment(0xE1, b"Exif\0\0" + circle()))
    decoded = decode(data)
    assert decoded.form.orientation == 6
    encode(decoded.form, decoded.pixels, name=name)


def test_values_of_a_tiff_that_overlap_do_not_grow():
    count = 4000
    payload = bytes(60_000)
    start = 8 + 2 + 12 * count + 4
    entries = b"".join(
        struct.pack("<HHII", 40_000 + n, 7, len(payload), start) for n in range(count)
    )
    data = b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4) + payload
    found = metadata.read(data, "TIFF")
    assert found.blocks.exif is not None
    assert len(found.blocks.exif) < 2 * len(data)
    assert any("overlap" in said for said in found.warnings)


@pytest.mark.parametrize("packet", [EXTERNAL, LAUGHS], ids=["external-entity", "billion-laughs"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xmp_that_declares_entities_is_kept_where_no_reader_expands_it(packet, encoding):
    data = packet.encode(encoding)
    master = jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + data))
    started = time.monotonic()
    derivative, (warning,) = through(master)
    assert time.monotonic() - started < 5
    assert "declares a document type" in warning
    assert b"ENTITY" not in derivative
    (kept,) = re.findall(rb"<heliograph:MasterPacket[^>]*>([^<]+)<", derivative)
    assert base64.b64decode(kept) == data


@pytest.mark.parametrize(
    "packet",
    [b"\xff\xfe\xfd", b"<x>", b"<a/>", PACKET.format("<dc:a>").encode()],
    ids=["no-text", "cut", "no-rdf", "open-tag"],
)
def test_xmp_that_cannot_be_read_is_said_and_kept(packet):
    data = jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))
    derivative, warnings = through(data)
    (kept,) = re.findall(rb"<heliograph:MasterPacket[^>]*>([^<]+)<", derivative)
    assert base64.b64decode(kept) == packet
    assert [said for said in warnings if "XMP cannot be read" in said]


@pytest.mark.parametrize("packet", [b"", bytes(5000), b"  \n"])
def test_a_packet_with_nothing_in_it_is_replaced(packet):
    derivative, warnings = through(
        jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))
    )
    assert warnings == []
    assert b"DigitalSourceType" in derivative and b"MasterPacket" not in derivative


def test_namespaces_without_end_are_bounded():
    many = "".join(f' xmlns:n{n}="urn:{n}"' for n in range(20_000))
    packet = PACKET.format("<dc:a/>" * 20_000).replace("<rdf:RDF", f"<rdf:RDF{many}")
    started = time.monotonic()
    metadata.recorded(Blocks(xmp=packet.encode()), MADE)
    assert time.monotonic() - started < 5


def large_packet(*sizes):
    letters = random.Random(3).choices("abcdefghijklmnopqrstuvwxyz ", k=max(sizes))
    return PACKET.format(
        "".join(
            f"<dc:p{n} xml:lang='x-default'>{''.join(letters[:size])}</dc:p{n}>"
            for n, size in enumerate(sizes)
        )
    ).encode()


@exiftool.needed
def test_xmp_too_large_for_a_segment_is_extended_as_the_standard_has_it(tmp_path):
    packet = large_packet(90_000, 40_000, 30_000, 100)
    png = saved(small(), "PNG")
    at = png.index(b"IDAT") - 4
    master = png[:at] + chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packet) + png[at:]
    derivative, warnings = through(master, "JPEG")
    assert warnings == []
    (tmp_path / "a.jpg").write_bytes(derivative)
    (tmp_path / "a.png").write_bytes(master)
    extended, whole = exiftool.tags(tmp_path / "a.jpg", tmp_path / "a.png")
    assert whole.keys() >= {"XMP-dc:P0", "XMP-dc:P1", "XMP-dc:P2", "XMP-dc:P3"}
    assert {tag: extended.get(tag) for tag in whole if "XMP" in tag} == {
        tag: value for tag, value in whole.items() if "XMP" in tag
    }
    standard = opened(derivative).info["xmp"]
    assert b"DigitalSourceType" in standard and b"HasExtendedXMP" in standard
    again, warnings = through(derivative)  # and comes back as one packet
    assert warnings == []
    joined = decode(again).form.metadata.xmp
    ElementTree.fromstring(joined)
    assert b"HasExtendedXMP" not in joined
    assert joined.count(b"<dc:p0") == 1


def test_an_extension_of_xmp_that_is_not_all_there_is_said():
    digest = hashlib.md5(b"x").hexdigest().upper()
    note = (
        f'<note:HasExtendedXMP xmlns:note="http://ns.adobe.com/xmp/note/">{digest}'
        "</note:HasExtendedXMP>"
    )
    main = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + PACKET.format(note).encode())
    part = struct.pack(">32sII", digest.encode(), 5000, 0) + b"<x/>"
    more = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + part)
    _, warnings = through(jpeg_with(main, more))
    assert warnings == ["the extension of XMP was left out: it is not all there"]


def test_exif_too_large_for_a_segment_loses_its_largest_value_and_says_so():
    tags = Image.Exif()
    tags[270] = "Aunt May"
    tags.get_ifd(34665)[37510] = bytes(100_000)  # UserComment
    tags.get_ifd(34665)[0x9003] = "1931:05:02 10:00:00"
    derivative, (warning,) = through(saved(small(), "PNG", exif=tags), "JPEG")
    assert "EXIF is too large: tag 37510, of 100,000 bytes, left out" in warning
    kept = opened(derivative).getexif()
    assert kept[270] == "Aunt May"
    assert kept.get_ifd(34665)[0x9003] == "1931:05:02 10:00:00"


def test_a_block_of_thousands_of_large_values_is_made_to_fit_at_once():
    count, size = 4000, 5000
    start = 8 + 2 + 12 * count + 4
    entries = b"".join(
        struct.pack("<HHII", 40_000 + n, 7, size, start + size * n) for n in range(count)
    )
    block = b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4 + size * count)
    started = time.monotonic()
    data, warnings = metadata.insert(saved(small(), "JPEG"), "JPEG", Blocks(exif=block))
    assert time.monotonic() - started < 5
    assert len(data) < 200_000
    (warning,) = warnings
    assert re.search(r"tag \d+, 3\d{3} more, of 19,\d{3},\d{3} bytes, left out", warning)
    assert len(opened(data).getexif()) > 0


def test_exif_in_several_segments_is_one_block():
    block = canon_exif()
    data = jpeg_with(
        segment(0xE1, b"Exif\0\0" + block[:100]), segment(0xE1, b"Exif\0\0" + block[100:])
    )
    assert metadata.read(data, "JPEG").blocks.exif == block


def test_iptc_too_large_for_a_segment_goes_into_several(tmp_path):
    caption = b"\x1c\x02\x78" + struct.pack(">HI", 0x8004, 100_000) + b"c" * 100_000
    form = codec.Form(format="JPEG", mode="RGB", metadata=Blocks(iptc=caption))
    warnings = []
    data = encode(form, small(), warnings=warnings)
    assert warnings == []
    assert decode(data).form.metadata.iptc == caption


@pytest.mark.parametrize("unit", [1, 2, 3])
@pytest.mark.parametrize("x", [Fraction(1, 10**140), Fraction(10**140, 7), Fraction(6001, 10)])
@pytest.mark.parametrize("name", FORMATS)
def test_a_resolution_beyond_all_measure_stops_nothing(name, x, unit):
    blocks = Blocks(resolution=Resolution(x, Fraction(300), unit))
    data = encode(codec.Form(format=name, mode="RGB", metadata=blocks), small())
    told = metadata.resolution(metadata.read(data, name).blocks)
    if x == Fraction(6001, 10) and unit == 2:
        assert told.dpi == pytest.approx((600.1, 300), abs=0.5)  # JFIF counts in whole ones


def test_photoshops_resources_that_are_cut_off_are_said_and_kept():
    held = b"8BIM" + struct.pack(">HHI", 0x03ED, 0, 500) + b"short"
    derivative, (warning,) = through(jpeg_with(segment(0xED, b"Photoshop 3.0\0" + held)))
    assert "Photoshop's resources cannot be read" in warning
    assert held in derivative


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_content_credentials_of_the_master_are_not_passed_on_and_that_is_said(name):
    # As C2PA 2.1 has them: JUMBF in APP11, or in a chunk of its own.
    box = struct.pack(">I4sI4s", 40, b"jumb", 32, b"jumd") + b"c2pa" + bytes(20)
    if name == "JPEG":
        master = jpeg_with(segment(0xEB, b"JP\0\1\0\0\0\1" + box))
    else:
        png = saved(small(), "PNG")
        at = png.index(b"IDAT") - 4
        master = png[:at] + chunk(b"caBX", box) + png[at:]
    derivative, warnings = through(master)
    assert warnings == ["the content credentials (C2PA) of the master were left out"]
    assert b"c2pa" not in derivative


def test_a_text_chunk_that_unpacks_to_gigabytes_is_not_unpacked():
    packed = zlib.compress(bytes(200 << 20), 9)
    bomb = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)
    png = saved(small(), "PNG")
    at = png.index(b"IDAT") - 4
    found = metadata.read(png[:at] + bomb + png[at:], "PNG")
    assert found.blocks.xmp is None
    assert any("more than" in said for said in found.warnings)


@pytest.mark.parametrize("name", ["BMP", "PPM", "GIF"])
def test_what_a_format_without_metadata_cannot_hold_is_named(name):
    decoded = decode(saved(small(), "PNG", exif=b"Exif\0\0" + canon_exif(), dpi=(300, 300)))
    warnings = []
    encode(decoded.form, decoded.pixels, name=name, warnings=warnings)
    lost = "EXIF" if name == "BMP" else "EXIF, the resolution"
    assert warnings == [f"{name} holds no metadata; left out: {lost}"]


@pytest.mark.parametrize("name", FORMATS)
def test_no_damage_to_a_file_stops_its_metadata_from_being_read_and_written(name):
    packet = large_packet(200).decode().replace("?>", "?>")
    rich = Blocks(
        exif=canon_exif(),
        iptc=b"\x1c\x02\x78\x00\x05Hello",
        photoshop=b"8BIM" + struct.pack(">HHI", 0x03ED, 0, 2) + b"ab",
        resolution=Resolution(Fraction(300), Fraction(300), 2),
        xmp=packet.encode(),
    )
    data = encode(codec.Form(format=name, mode="RGB", metadata=rich), small())
    end = min(len(data), 6000)
    dice = random.Random(name)
    start = len(data) - end if name == "TIFF" else 0  # where its directories are
    blank = {target: plain(target, small()) for target in FORMATS}
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(dice.choice((1, 3, 30))):
            broken[start + dice.randrange(end)] = dice.choice((0, 1, 255, dice.randrange(256)))
        if dice.random() < 0.2:
            del broken[dice.randrange(len(broken)) :]
        found = metadata.read(bytes(broken), name)
        assert 1 <= metadata.orientation(found.blocks) <= 8
        amended = metadata.amended(found.blocks, 72, 96)
        told = metadata.recorded(amended.blocks, MADE)
        target = dice.choice(FORMATS)
        if target == "TIFF":
            tree, _ = tags(told.blocks, dice.choice("<>"))
            assert 700 in tree.fields
            continue
        derivative, _ = metadata.insert(blank[target], target, told.blocks)
        assert metadata.read(derivative, target).blocks.xmp is not None
