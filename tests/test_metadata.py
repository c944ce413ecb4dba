"""Metadata goes through a restoration tag by tag, as ExifTool reads it, in and between formats."""

import struct
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests import exiftool, jobs, photographs
from tests.photographs import saved, sixteen, small
from transforms import codec

pytestmark = exiftool.needed

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif", "WEBP": "webp", "JP2": "jp2"}
FORMATS = list(EXTENSIONS)
WIDTH, HEIGHT = 72, 96

WRITTEN = (
    "-EXIF:ImageDescription=Aunt May on the pier",
    "-EXIF:Artist=A. Photographer",
    "-EXIF:Copyright=Public domain",
    "-EXIF:Orientation#=6",
    "-EXIF:XResolution=600",
    "-EXIF:YResolution=600",
    "-EXIF:ResolutionUnit#=2",
    "-EXIF:DateTimeOriginal=1931:05:02 10:00:00",
    "-EXIF:UserComment=Glass plate 12",
    "-EXIF:ExposureTime=1/50",
    "-EXIF:ExifImageWidth=999",
    "-EXIF:ExifImageHeight=999",
    "-EXIF:InteropIndex=R98",
    "-EXIF:GPSLatitude=48.208",
    "-EXIF:GPSLatitudeRef=N",
    "-EXIF:GPSLongitude=16.373",
    "-EXIF:GPSLongitudeRef=E",
    "-IPTC:CodedCharacterSet=UTF8",
    "-IPTC:Caption-Abstract=Tante Mai auf der Brücke",
    "-IPTC:By-line=A. Photographer",
    "-IPTC:Keywords=pier",
    "-IPTC:Keywords=sea",
    "-XMP-dc:Title=The pier",
    "-XMP-dc:Subject=pier",
    "-XMP-tiff:Orientation#=6",
    "-XMP-exif:ExifImageWidth=999",
    "-XMP-xmpMM:DocumentID=xmp.did:1",
    "-XMP-xmpMM:InstanceID=xmp.iid:2",
    "-XMP-xmpMM:DerivedFrom={DocumentID=xmp.did:0}",
    "-XMP-xmpMM:History={Action=saved,SoftwareAgent=Scanner}",
    "-XMP-iptcExt:DigitalSourceType=http://cv.iptc.org/newscodes/digitalsourcetype/print",
)
# What is true of a derivative alone.
CHANGED = {
    "IFD0:Orientation": 1,
    "ExifIFD:ExifImageWidth": WIDTH,
    "ExifIFD:ExifImageHeight": HEIGHT,
    "XMP-tiff:Orientation": 1,
    "XMP-exif:ExifImageWidth": WIDTH,
}
CANON = {"Canon:CanonImageType": "Canon EOS 5D", "Canon:OwnerName": "The archive"}


def canon_exif(order="<"):
    """EXIF with a thumbnail and a maker note of Canon's kind: a directory whose offsets count from
    the beginning of the block. Written by hand from EXIF 2.32 and ExifTool's table of tags.
    """
    mark = b"II*\0" if order == "<" else b"MM\0*"
    texts = [(0x0006, b"Canon EOS 5D\0\0\0\0"), (0x0009, b"The archive".ljust(32, b"\0"))]
    note_at = 8 + 2 + 2 * 12 + 4 + 6 + 2 + 12 + 4
    place = note_at + 2 + 12 * len(texts) + 4
    note, held = struct.pack(f"{order}H", len(texts)), b""
    for tag, text in texts:
        note += struct.pack(f"{order}HHII", tag, 2, len(text), place + len(held))
        held += text
    note += bytes(4) + held
    exif_at = 8 + 2 + 2 * 12 + 4 + 6
    second_at = note_at + len(note)
    thumbnail = saved(small(), "JPEG", quality=20)
    block = mark + struct.pack(f"{order}I", 8)
    block += struct.pack(f"{order}HHHII", 2, 271, 2, 6, exif_at - 6)
    block += struct.pack(f"{order}HHII", 34665, 4, 1, exif_at)
    block += struct.pack(f"{order}I", second_at) + b"Canon\0"
    block += struct.pack(f"{order}HHHIII", 1, 37500, 7, len(note), note_at, 0) + note
    assert len(block) == second_at
    block += struct.pack(f"{order}HHHII", 2, 513, 4, 1, second_at + 2 + 24 + 4)
    block += struct.pack(f"{order}HHIII", 514, 4, 1, len(thumbnail), 0)
    return block + thumbnail


def plain(name, pixels):
    """A file as encoders of others write it, with nothing but an image in it."""
    if name == "JP2":
        return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="jp2"))
    options = {"lossless": True} if name == "WEBP" else {}
    return saved(pixels, name, **options)


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """Tags of a master of every format, and of its derivative in every format."""
    folder = tmp_path_factory.mktemp("metadata")
    turned = np.ascontiguousarray(small().swapaxes(0, 1)[::-1])  # stored so that 6 makes it upright
    source = folder / "canon.jpg"
    source.write_bytes(saved(turned, "JPEG", exif=b"Exif\0\0" + canon_exif()))
    masters = {name: folder / f"master.{EXTENSIONS[name]}" for name in FORMATS}
    for name, path in masters.items():
        path.write_bytes(plain(name, turned))
    exiftool.write(masters.values(), "-tagsfromfile", source, "-all:all", "-unsafe", *WRITTEN)
    derivatives = {}
    for name, path in masters.items():
        decoded = codec.decode(path.read_bytes())
        assert decoded.warnings == ()
        for target in FORMATS:
            warnings = []
            data = codec.encode(decoded.form, decoded.pixels, name=target, warnings=warnings)
            assert warnings == []
            derivatives[name, target] = folder / f"{name}-to.{EXTENSIONS[target]}"
            derivatives[name, target].write_bytes(data)
    found = exiftool.tags(*masters.values(), *derivatives.values())
    read = dict(zip([*masters, *derivatives], found, strict=True))
    return read, masters, derivatives


# How a file stores the picture, and what formats say in a way of their own.
STORED = (
    {f"IFD0:{name}" for name in ["ImageWidth", "ImageHeight", "BitsPerSample", "Compression"]}
    | {f"IFD0:{name}" for name in ["PhotometricInterpretation", "StripOffsets"]}
    | {f"IFD0:{name}" for name in ["SamplesPerPixel", "RowsPerStrip", "StripByteCounts"]}
    | {f"IFD0:{name}" for name in ["PlanarConfiguration", "YCbCrPositioning", "Predictor"]}
    | {"IFD0:YCbCrSubSampling", "IFD0:ReferenceBlackWhite", "IFD0:YCbCrCoefficients"}
)
GROUPS = ("IFD0", "ExifIFD", "GPS", "InteropIFD", "Canon", "IPTC", "XMP-")


def told(tags):
    return {
        name: value
        for name, value in tags.items()
        if name.startswith(GROUPS) and name not in STORED
    }


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_tag_of_a_master_is_in_its_derivative(through, name, target):
    read, *_ = through
    master, derivative = told(read[name]), told(read[name, target])
    assert len(master) > 35, "the reference wrote what the test is about"
    assert master.keys() >= CHANGED.keys() | CANON.keys() | {"GPS:GPSLatitude"}
    assert "IPTC:Keywords" in master or name == "WEBP"  # into which ExifTool writes none
    expected = {**master, **CHANGED}
    assert {tag: derivative.get(tag) for tag in expected} == expected
    assert derivative.keys() <= expected.keys() | {"IPTC:ApplicationRecordVersion"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_thumbnail_of_the_master_is_not_passed_on(through, name):
    read, masters, derivatives = through
    assert not any("Thumbnail" in tag for tag in read[name, "JPEG"])
    if name == "JPEG":
        assert any("Thumbnail" in tag for tag in read[name])
        saved_bytes = masters[name].stat().st_size - derivatives[name, name].stat().st_size
        assert saved_bytes > -10_000


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_maker_note_stays_where_it_is_in_a_block_that_is_kept(order):
    block = canon_exif(order)
    decoded = codec.decode(saved(small(), "JPEG", exif=b"Exif\0\0" + block))
    kept = decoded.form.metadata.exif
    assert kept is not None
    at = block.index(b"The archive")
    assert kept.index(b"The archive") == at
    assert kept == block[:34] + bytes(4) + block[38 : len(kept)]  # and no second directory
    assert b"\xff\xd8" not in kept


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_eight_orientations_come_out_upright_alike_and_say_1(tmp_path, orientation):
    turns = [Image.Transpose(turn) for turn in (0, 3, 1, 5, 4, 6, 2)]
    undone = dict(zip(range(2, 9), turns, strict=True))
    stored = Image.fromarray(small())
    if orientation > 1:  # what Pillow's own turning would undo
        inverse = {Image.Transpose.ROTATE_90: 4, Image.Transpose.ROTATE_270: 2}
        stored = stored.transpose(
            Image.Transpose(inverse.get(undone[orientation], undone[orientation]))
        )
    paths = []
    for name in FORMATS:
        path = tmp_path / f"{name}.{EXTENSIONS[name]}"
        path.write_bytes(plain(name, np.asarray(stored)))
        paths.append(path)
    exiftool.write(paths, f"-EXIF:Orientation#={orientation}")
    for path in paths:
        decoded = codec.decode(path.read_bytes())
        if path.suffix != ".jpg":
            assert np.array_equal(decoded.pixels, small())
        path.write_bytes(codec.encode(decoded.form, decoded.pixels))
        assert decoded.form.orientation == orientation
    for found in exiftool.tags(*paths):
        assert found["IFD0:Orientation"] == 1


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_48_bit_tiff_through_restore_equals_its_master_tag_by_tag(tmp_path, models, byteorder):
    archive = tmp_path / "archive"
    archive.mkdir()
    master = archive / "pier.tif"
    pixels = sixteen(small())
    tifffile.imwrite(
        master,
        pixels,
        photometric="rgb",
        byteorder=byteorder,
        metadata=None,
        software=False,
        resolution=((6001, 10), (6001, 10)),
        resolutionunit="INCH",
        iccprofile=photographs.srgb_profile(),
    )
    source = tmp_path / "canon.jpg"
    source.write_bytes(saved(small(), "JPEG", exif=b"Exif\0\0" + canon_exif(byteorder)))
    described = [tag for tag in WRITTEN if "Resolution" not in tag and "Orientation" not in tag]
    exiftool.write([master], "-tagsfromfile", source, "-all:all", "-unsafe", *described)
    before = master.read_bytes()
    jobs.run("restore", archive, tmp_path / "out", "--model", models / "identity", code=0)
    derivative = tmp_path / "out" / "images" / "pier.tif"
    assert master.read_bytes() == before
    assert np.array_equal(tifffile.imread(derivative), pixels)
    old, new = exiftool.tags(master, derivative)
    assert old.keys() >= CANON.keys() | {"ICC-header:ColorSpaceData", "IPTC:Keywords"}
    changed = {name: value for name, value in CHANGED.items() if "Orientation" not in name}
    stored = ("IFD0:Strip", "IFD0:RowsPerStrip")
    added = ("XMP-xmpMM:", "XMP-iptcExt:DigitalSourceType", "XMP-heliograph:Master")
    kept = {
        tag: value
        for tag, value in {**old, **changed}.items()
        if not tag.startswith((*stored, *added))
    }
    assert {tag: new.get(tag) for tag in kept} == kept
    assert all(tag.startswith((*stored, *added)) for tag in new.keys() - kept.keys())
    assert (new["IFD0:XResolution"], new["IFD0:ResolutionUnit"]) == (600.1, 2)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["classic", "BigTIFF"])
def test_directories_of_exif_are_written_in_a_tiffs_own_order_and_size(tmp_path, byteorder, big):
    master = tmp_path / "master.jpg"
    master.write_bytes(saved(small(), "JPEG", exif=b"Exif\0\0" + canon_exif()))
    exiftool.write([master], *(tag for tag in WRITTEN if "Orientation" not in tag))
    decoded = codec.decode(master.read_bytes())
    notes = {"byteorder": byteorder, "bigtiff": big}
    form = replace(decoded.form, format="TIFF", notes=notes)
    derivative = tmp_path / "derivative.tif"
    derivative.write_bytes(codec.encode(form, decoded.pixels))
    with tifffile.TiffFile(derivative) as tiff:
        assert (tiff.byteorder, tiff.is_bigtiff) == (byteorder, big)
        tags = tiff.pages[0].tags
        assert tags["Artist"].value == "A. Photographer"
        assert tags["ExifTag"].value["DateTimeOriginal"] == "1931:05:02 10:00:00"
        assert tags["ExifTag"].value["PixelXDimension"] == WIDTH
        assert tags["ExifTag"].value["ExposureTime"] == (1, 50)
        assert tags["GPSTag"].value["GPSLatitude"][:2] == (48, 1)
        assert b"Br\xc3\xbccke" in tags["IPTCNAA"].value
        assert "The pier" in tags["XMP"].value.decode()
    if big:  # of which ExifTool reads the first directory alone
        return
    old, new = map(told, exiftool.tags(master, derivative))
    expected = {**old, **{name: value for name, value in CHANGED.items() if name in old}}
    assert {tag: new.get(tag) for tag in expected} == expected
    assert CANON.items() <= new.items()
