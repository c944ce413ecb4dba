"""What a master says of itself is in its derivative, except where it would no longer be true."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from tests import photographs
from tests.photographs import gray, opened, rewritten, saved, sixteen, small
from transforms.codec import decode, encode
from transforms.icc import SRGB
from transforms.metadata import Blocks

EXIF_FOLDER, GPS_FOLDER = 0x8769, 0x8825
XMP = (
    b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-"
    b"syntax-ns#'><rdf:Description rdf:about='' xmlns:tiff='http://ns.adobe.com/tiff/1.0/' "
    b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
UPRIGHT_XMP = XMP.replace(b'"6"', b'"1"')
RICH = ["JPEG", "PNG", "TIFF", "WEBP"]


def exif(**more):
    tags = Image.Exif()
    tags.update({0x10E: "Aunt May", 0x112: 6, 0x132: "1931:05:02 10:00:00", 0x8298: "PD"})
    tags.get_ifd(EXIF_FOLDER)[0x9003] = "1931:05:02 10:00:00"
    tags.get_ifd(GPS_FOLDER)[1] = "N"
    return tags


def with_xmp(name, tags):
    if name == "PNG":
        chunks = PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return {"pnginfo": chunks, "exif": tags}
    if name == "TIFF":
        tags[700] = XMP
        return {"exif": tags.tobytes()}  # Pillow would drop the folders of an Exif object
    return {"xmp": XMP, "exif": tags}


def master(name):
    options = {"dpi": (300, 300), "icc_profile": photographs.srgb_profile()}
    tags = exif()
    if name == "WEBP":  # which has no other place for a resolution
        tags.update({0x11A: IFDRational(300), 0x11B: IFDRational(300), 0x128: 2})
    return saved(small(), name, **options, **with_xmp(name, tags))


@pytest.mark.parametrize("name", RICH)
def test_all_metadata_is_carried_over_in_the_masters_own_format(name):
    decoded = decode(master(name))
    assert decoded.warnings == ()
    check(opened(encode(decoded.form, decoded.pixels)))


@pytest.mark.parametrize("name", RICH)
@pytest.mark.parametrize("target", ["JPEG", "PNG", "TIFF"])
def test_all_metadata_is_carried_over_into_another_format(name, target):
    decoded = decode(master(name))
    check(opened(encode(decoded.form, decoded.pixels, name=target)))


def check(derivative):
    tags = derivative.getexif()
    assert (tags[0x10E], tags[0x132], tags[0x8298]) == ("Aunt May", "1931:05:02 10:00:00", "PD")
    assert tags[0x112] == 1
    assert tags.get_ifd(EXIF_FOLDER)[0x9003] == "1931:05:02 10:00:00"
    assert tags.get_ifd(GPS_FOLDER)[1] == "N"
    assert derivative.info["icc_profile"] == photographs.srgb_profile()
    assert derivative.info["xmp"] == UPRIGHT_XMP
    resolution = derivative.info.get("dpi") or (tags[0x11A], tags[0x11B])
    assert resolution == pytest.approx((300, 300), abs=0.01)  # PNG counts pixels per metre


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "PPM"])
def test_nothing_is_said_that_the_master_did_not_say(name):
    decoded = decode(saved(small(), name))
    form = decoded.form
    assert (form.icc, form.metadata, form.dpi) == (None, Blocks(), None)
    derivative = opened(encode(form, decoded.pixels))
    assert {"icc_profile", "exif", "xmp"}.isdisjoint(derivative.info)
    assert {0x112, 0x11A, 0x11B, 0x128}.isdisjoint(derivative.getexif())


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("options", [{}, {"exif": exif()}], ids=["alone", "beside-exif"])
def test_xmp_behind_the_pixels_of_a_png_is_found(options):
    data = saved(small(), "PNG", **options)
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP)
    decoded = decode(data[:-12] + xmp + data[-12:])
    assert opened(encode(decoded.form, decoded.pixels)).info["xmp"] == UPRIGHT_XMP


@pytest.mark.parametrize(
    ("said", "upright"),
    [
        (b' tiff:Orientation="8"/>', b' tiff:Orientation="1"/>'),
        (b" tiff:Orientation='8'/>", b" tiff:Orientation='1'/>"),
        (
            b"><tiff:Orientation>3</tiff:Orientation></rdf:Description>",
            b"><tiff:Orientation>1</tiff:Orientation></rdf:Description>",
        ),
    ],
    ids=["attribute", "single-quotes", "element"],
)
def test_xmp_does_not_turn_an_upright_derivative_again(said, upright):
    packet = XMP.replace(b' tiff:Orientation="6"/>', said)
    decoded = decode(saved(small(), "JPEG", xmp=packet))
    derivative = opened(encode(decoded.form, decoded.pixels))
    assert derivative.info["xmp"] == packet.replace(said, upright)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF"])
def test_a_gray_profile_stays_with_gray_and_leaves_when_colour_comes(name):
    icc = photographs.gray_profile()
    decoded = decode(saved(gray(small()), name, icc_profile=icc))
    assert decoded.warnings == ()
    kept = opened(rewritten(decoded))
    assert (kept.mode, kept.info.get("icc_profile")) == ("L", icc)
    coloured = opened(rewritten(decoded, small()))
    assert coloured.mode == "RGB"
    assert coloured.info["icc_profile"] == SRGB
    assert "icc_profile" not in opened(encode(decoded.form, small())).info, "it is for gray"


def test_a_gray_profile_stays_with_16_bits():
    deep = sixteen(small())[..., 0]
    decoded = decode(saved(Image.fromarray(deep), "TIFF", icc_profile=photographs.gray_profile()))
    derivative = opened(rewritten(decoded))
    assert derivative.info["icc_profile"] == photographs.gray_profile()
    assert np.array_equal(np.asarray(derivative), deep)


# With ids: a profile is stamped with the time, and all processes are to know a test by one name.
@pytest.mark.parametrize(
    "icc", [b"no profile", photographs.srgb_profile()[:100]], ids=["none", "cut"]
)
def test_a_broken_profile_is_left_out_and_said(icc):
    decoded = decode(saved(small(), "PNG", icc_profile=icc))
    assert decoded.form.icc is None
    (warning,) = decoded.warnings
    assert warning.startswith("the ICC profile was not used, and not carried over: it is broken: ")
    assert np.array_equal(decoded.pixels, small())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own word for it
def test_broken_exif_does_not_stop_the_image():
    broken = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 30
    decoded = decode(saved(small(), "PNG", exif=broken))
    assert np.array_equal(decoded.pixels, small())
    opened(encode(decoded.form, decoded.pixels))


@pytest.mark.parametrize(
    ("given", "after"),
    [
        ("raw", "raw"),
        ("tiff_lzw", "tiff_lzw"),
        ("packbits", "packbits"),
        ("tiff_adobe_deflate", "tiff_adobe_deflate"),
        ("jpeg", "tiff_adobe_deflate"),
    ],
)
def test_a_tiff_keeps_its_compression_unless_it_loses_something(given, after):
    decoded = decode(saved(small(), "TIFF", compression=given))
    derivative = opened(encode(decoded.form, decoded.pixels))
    assert derivative.info["compression"] == after
    assert np.array_equal(np.asarray(derivative), decoded.pixels)


@pytest.mark.parametrize("lossless", [True, False], ids=["lossless", "lossy"])
def test_a_webp_stays_as_lossless_as_it_was(lossless):
    decoded = decode(saved(small(), "WEBP", lossless=lossless))
    derivative = opened(encode(decoded.form, decoded.pixels))
    assert np.array_equal(np.asarray(derivative), decoded.pixels) == lossless


def test_a_gif_master_is_told_of_what_keeps_its_colours():
    assert any("--image_format png" in said for said in decode(saved(small(), "GIF")).warnings)
