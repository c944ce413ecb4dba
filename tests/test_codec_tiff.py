"""TIFF comes in and goes out sample by sample, however it is stored; tifffile is the reference."""

import io
import itertools
import struct
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.photographs import gray, opened, rewritten, saved, sixteen, small
from transforms.codec import CodecError, decode, decode_pages, encode

DEEP = sixteen(small())
PIXELS = {
    "gray-8": gray(small()),
    "rgb-8": small(),
    "gray-16": DEEP[..., :1],
    "rgb-16": DEEP,
    "la-16": np.dstack([DEEP[..., 0], DEEP[..., 1]]),
    "rgba-8": np.dstack([small(), gray(small("chelsea"))]),
    "rgba-16": np.dstack([DEEP, DEEP[..., 1]]),
}
LAYOUTS = {
    "strips": {},
    "one-row-strips": {"rowsperstrip": 1},
    "uneven-strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 16)},
    "big-endian": {"byteorder": ">", "rowsperstrip": 11},
    "bigtiff": {"bigtiff": True},
    "big-endian-bigtiff": {"byteorder": ">", "bigtiff": True, "tile": (16, 32)},
}
COMPRESSIONS = {
    "none": {},
    "lzw": {"compression": "lzw"},
    "lzw-predictor": {"compression": "lzw", "predictor": 2},
    "deflate": {"compression": "adobe_deflate"},
    "deflate-predictor": {"compression": "adobe_deflate", "predictor": 2},
    "old-deflate": {"compression": "deflate"},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
    "lzma": {"compression": "lzma"},
}


def tiff(pixels, **options):
    out = io.BytesIO()
    colours = {1: "minisblack", 2: "minisblack", 3: "rgb", 4: "rgb"}
    if "planarconfig" in options:
        pixels = np.moveaxis(pixels, -1, 0)
    elif pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    channels = pixels.shape[-1] if pixels.ndim == 3 else 1
    if "planarconfig" in options:
        channels = len(pixels)
    if channels in (2, 4) and "photometric" not in options:
        options.setdefault("extrasamples", ["unassalpha"])
    options.setdefault("photometric", colours[channels])
    tifffile.imwrite(out, pixels, metadata=None, software=False, **options)
    return out.getvalue()


def page(data, index=0):
    return tifffile.TiffFile(io.BytesIO(data)).pages[index]


def joined(decoded):
    if decoded.alpha is None:
        return decoded.pixels
    return np.dstack([decoded.pixels, decoded.alpha])


def check_kept(data, pixels):
    """The master comes in whole, and goes out in the same samples and the same layout."""
    decoded = decode(data)
    assert decoded.pixels.dtype == pixels.dtype
    assert np.array_equal(joined(decoded), pixels)
    derivative = encode(decoded.form, decoded.pixels, decoded.alpha)
    before, after = page(data), page(derivative)
    assert np.array_equal(after.asarray(), before.asarray())
    for name in ("compression", "predictor", "is_tiled", "planarconfig", "photometric"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.parent.byteorder == before.parent.byteorder
    assert after.parent.is_bigtiff == before.parent.is_bigtiff
    assert after.chunks == before.chunks
    assert after.extrasamples == before.extrasamples
    return derivative


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", PIXELS)
def test_every_kind_of_samples_in_every_layout_is_kept(kind, layout):
    check_kept(tiff(PIXELS[kind], **LAYOUTS[layout]), PIXELS[kind])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["gray-8", "rgb-16"])
def test_every_lossless_compression_is_kept(kind, compression, order):
    options = {"byteorder": order, "rowsperstrip": 13, **COMPRESSIONS[compression]}
    check_kept(tiff(PIXELS[kind], **options), PIXELS[kind])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["rgb-8", "rgb-16", "rgba-16"])
def test_planes_stay_planes(kind, layout):
    options = {**LAYOUTS[layout], "planarconfig": "separate", "compression": "lzw"}
    check_kept(tiff(PIXELS[kind], **options), PIXELS[kind])


def test_pillow_reads_what_is_written():
    for kind, compression in itertools.product(["gray-8", "rgb-8", "rgba-8"], COMPRESSIONS):
        decoded = decode(tiff(PIXELS[kind], **COMPRESSIONS[compression]))
        derivative = opened(encode(decoded.form, decoded.pixels, decoded.alpha))
        assert np.array_equal(np.asarray(derivative), PIXELS[kind].squeeze()), (kind, compression)


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
def test_samples_of_other_depths_fill_the_range_and_can_be_scaled_back(bits):
    top = (1 << bits) - 1
    levels = np.random.default_rng(bits).integers(0, top, (48, 64), endpoint=True)
    levels[0, :2] = 0, top
    ones = levels[..., None] >> np.arange(bits)[::-1] & 1
    packed = np.packbits(ones.reshape(48, -1).astype(np.uint8), axis=1).tobytes()
    head = tiff(levels.astype(np.uint8))
    data = bytearray(head[: page(head).dataoffsets[0]] + packed)
    for tag, value in ((258, bits), (279, len(packed))):
        found = page(head).tags[tag]
        struct.pack_into("<H" if tag == 258 else "<I", data, found.valueoffset, value)
    assert np.array_equal(page(bytes(data)).asarray(), levels)
    decoded = decode(bytes(data))
    white = 255 if bits < 8 else 65535
    assert decoded.form.bits == bits
    assert decoded.pixels.max() == white
    assert decoded.pixels.min() == 0
    assert np.array_equal(np.rint(decoded.pixels[..., 0] / white * top), levels)
    assert decoded.form.conversions == (
        f"{bits}-bit samples scaled to {8 if bits < 8 else 16} bits",
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_of_0_to_1_are_read_in_16_bits_and_stay_floats(dtype):
    unit = (DEEP / 65535).astype(dtype)
    decoded = decode(tiff(unit))
    assert decoded.pixels.dtype == np.uint16
    assert np.array_equal(decoded.pixels, np.rint(unit.astype(np.float64) * 65535))
    assert decoded.form.conversions == (f"{dtype} samples of 0 to 1 to 16-bit integers",)
    derivative = page(encode(decoded.form, decoded.pixels)).asarray()
    assert derivative.dtype == dtype
    assert np.abs(derivative.astype(np.float64) - unit).max() <= (
        2**-11 if dtype == "float16" else 1 / 131070 + 1e-7
    )


@pytest.mark.parametrize("scale", [257, 256, 1], ids=["repeated", "shifted", "unscaled"])
def test_palettes_of_8_bits_are_read_however_they_fill_16(scale):
    indices = gray(small())[..., 0]
    colours = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2]).astype(
        np.uint16
    )
    decoded = decode(tiff(indices, photometric="palette", colormap=colours * np.uint16(scale)))
    assert np.array_equal(decoded.pixels, colours.astype(np.uint8).T[indices])
    assert decoded.form.conversions == ("palette to 8-bit RGB",)


def test_palettes_of_16_bits_lose_none():
    indices = gray(small())[..., 0]
    colours = np.random.default_rng(1).integers(0, 65536, (3, 256), dtype=np.uint16)
    decoded = decode(tiff(indices, photometric="palette", colormap=colours))
    assert np.array_equal(decoded.pixels, colours.T[indices])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_alpha_is_divided_out_and_comes_back_as_it_was(dtype):
    top = np.iinfo(dtype).max
    straight = small() if dtype == np.uint8 else DEEP
    alpha = straight[..., 1] | 1
    colour = np.rint(straight * (alpha[..., None] / top)).astype(dtype)
    data = tiff(np.dstack([colour, alpha]), extrasamples=["assocalpha"])
    decoded = decode(data)
    bright = alpha > top // 2
    assert np.abs(decoded.pixels[bright].astype(int) - straight[bright]).max() <= 1
    derivative = page(encode(decoded.form, decoded.pixels, decoded.alpha))
    assert np.array_equal(derivative.asarray(), page(data).asarray())
    assert derivative.extrasamples == (1,)


def test_an_infrared_channel_is_kept_aside():
    data = tiff(np.dstack([DEEP, DEEP[..., 2]]), extrasamples=["unspecified"])
    check_kept(data, np.dstack([DEEP, DEEP[..., 2]]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cmyk_without_a_profile_comes_back_as_it_looked(dtype):
    inks = np.dstack([DEEP, DEEP[..., 0] // 4])
    inks = inks if dtype == np.uint16 else (inks >> 8).astype(np.uint8)
    decoded = decode(tiff(inks, photometric="separated"))
    top = np.iinfo(dtype).max
    expected = (1 - inks[..., :3] / top) * (1 - inks[..., 3:] / top) * top
    assert decoded.pixels.dtype == dtype
    assert np.abs(decoded.pixels - expected).max() <= 0.5001
    derivative = page(rewritten(decoded))
    assert derivative.photometric.name == "SEPARATED"
    assert np.array_equal(derivative.asarray(), inks)


def test_lab_of_16_bits_keeps_neutral_grays_neutral_and_white_white():
    light = np.linspace(0, 65535, 72).astype(np.uint16)
    lab = np.zeros((96, 72, 3), np.uint16)
    lab[..., 0] = light
    decoded = decode(tiff(lab, photometric="cielab"))
    assert decoded.pixels.dtype == np.uint16
    assert np.ptp(decoded.pixels.astype(int), axis=-1).max() <= 2
    assert decoded.pixels[0, -1].min() >= 65534
    assert decoded.pixels[0, 0].max() == 0


@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lab_comes_back_in_every_sample(dtype, photometric):
    rng = np.random.default_rng(0)
    top = 65280 if (dtype, photometric) == (np.uint16, "icclab") else np.iinfo(dtype).max
    light = rng.integers(0, top, (96, 72, 1), endpoint=True)
    chroma = rng.integers(0, top, (96, 72, 2), endpoint=True)
    lab = np.dstack([light, chroma]).astype(dtype)
    if (dtype, photometric) == (np.uint16, "cielab"):
        lab[..., 1:] = rng.integers(-30000, 30000, (96, 72, 2)).astype(np.int16).view(np.uint16)
    derivative = page(rewritten(decode(tiff(lab, photometric=photometric))))
    assert derivative.photometric.name == photometric.upper()
    assert np.array_equal(derivative.asarray(), lab)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_in_tiff_is_read_as_libjpeg_reads_it_and_written_without_loss(subsampling):
    data = tiff(
        small(),
        compression="jpeg",
        compressionargs={"level": 90},
        photometric="ycbcr",
        subsampling=subsampling,
        rowsperstrip=32,
    )
    decoded = decode(data)
    assert np.array_equal(decoded.pixels, page(data).asarray())
    assert "YCbCr to RGB" in decoded.form.conversions
    derivative = page(encode(decoded.form, decoded.pixels))
    assert derivative.compression.name == "ADOBE_DEFLATE"
    assert np.array_equal(derivative.asarray(), decoded.pixels)


def test_ycbcr_without_jpeg_is_converted():
    ycc = np.asarray(Image.fromarray(small()).convert("YCbCr"))
    decoded = decode(saved(Image.fromarray(small()).convert("YCbCr"), "TIFF"))
    assert np.array_equal(
        np.asarray(Image.fromarray(ycc, "YCbCr").convert("RGB")), decoded.pixels
    ) or (np.abs(decoded.pixels.astype(int) - small()).max() <= 3)


FAX = ["group3", "group4", "tiff_ccitt", "packbits", "raw"]


@pytest.mark.parametrize("compression", FAX)
def test_bilevel_pages_stay_bilevel(compression):
    image = Image.fromarray(small()).convert("1")
    decoded = decode(saved(image, "TIFF", compression=compression))
    assert np.array_equal(decoded.pixels[..., 0] > 0, np.asarray(image))
    assert decoded.form.bits == 1
    data = encode(decoded.form, decoded.pixels)
    assert page(data).bitspersample == 1
    assert np.array_equal(
        page(data).asarray() > 0, np.asarray(opened(data)) ^ (page(data).photometric == 0)
    )
    assert np.array_equal(np.asarray(opened(data)), np.asarray(image))
    if compression in ("group3", "group4", "tiff_ccitt"):
        assert page(data).compression.name == "CCITTFAX4"


def test_the_same_image_gives_the_same_bytes_and_no_tag_of_ours():
    decoded = decode(tiff(DEEP, compression="lzw"))
    first = encode(decoded.form, decoded.pixels)
    assert first == encode(decoded.form, decoded.pixels.copy())
    told = {tag.code for tag in page(first).tags}
    assert told == {tag.code for tag in page(tiff(DEEP, compression="lzw")).tags}


def test_resolution_is_kept_exactly_in_its_own_unit():
    for unit, values in (("CENTIMETER", (118.11, 236.22)), ("INCH", (600, 1200)), ("NONE", (2, 1))):
        data = tiff(small(), resolution=values, resolutionunit=unit)
        decoded = decode(data)
        before, after = page(data), page(encode(decoded.form, decoded.pixels))
        assert after.tags[296].value == before.tags[296].value
        for tag in (282, 283):
            assert Fraction(*after.tags[tag].value) == Fraction(*before.tags[tag].value)
        assert decoded.form.resolution_unit == {"NONE": 1, "INCH": 2, "CENTIMETER": 3}[unit]


def test_private_tags_and_descriptions_are_kept_in_both_byte_orders():
    extra = [
        (270, 2, 0, "Grossmutter, 1931", True),
        (285, 2, 0, "page", True),
        (65000, 3, 3, (1, 2, 300), True),
        (65001, 12, 1, 2.5, True),
        (33550, 12, 3, (1.0, 2.0, 0.0), True),
    ]
    for order in "<>":
        data = tiff(small(), byteorder=order, extratags=extra)
        decoded = decode(data)
        assert decoded.warnings == ()
        after = page(encode(decoded.form, decoded.pixels))
        for tag, *_ in extra:
            assert after.tags[tag].value == page(data).tags[tag].value
            assert after.tags[tag].dtype == page(data).tags[tag].dtype


# -- pages -----------------------------------------------------------------------------------------


def pages_of(*images, **options):
    out = io.BytesIO()
    with tifffile.TiffWriter(out, byteorder=options.pop("byteorder", "<")) as writer:
        for image, more in images:
            writer.write(image, metadata=None, **more, **options)
    return out.getvalue()


MIXED = [
    (DEEP, {"photometric": "rgb", "compression": "lzw"}),
    (gray(small())[..., 0] > 128, {"photometric": "minisblack"}),
    (small("chelsea"), {"photometric": "rgb", "tile": (16, 16)}),
    (DEEP[:50, :30, 0], {"photometric": "minisblack", "resolution": (300, 300)}),
]


def test_all_pages_are_read_each_in_its_own_form():
    decoded = decode_pages(pages_of(*MIXED))
    assert [one.form.mode for one in decoded] == ["RGB;16", "1", "RGB", "I;16"]
    for one, (image, _) in zip(decoded, MIXED, strict=True):
        expected = image * 255 if image.dtype == bool else image
        assert np.array_equal(one.pixels.squeeze(), expected)


def test_previews_and_masks_are_no_pages():
    data = pages_of(
        (small()[::4, ::4], {"subfiletype": 1, "photometric": "rgb"}),
        (small(), {"photometric": "rgb"}),
        (gray(small())[..., 0] > 9, {"subfiletype": 4}),
        (small("chelsea"), {"subfiletype": 2, "photometric": "rgb"}),
    )
    decoded = decode_pages(data)
    assert [one.pixels.shape for one in decoded] == [(96, 72, 3)] * 2
    assert np.array_equal(decoded[1].pixels, small("chelsea"))
    assert decoded[0].warnings == ("2 previews or masks among its pages are not carried over",)


def chain(data):
    """The places of the pointers to each page, and to none after the last."""
    places, at = [], 4
    while offset := struct.unpack_from("<I", data, at)[0]:
        places.append(at)
        at = offset + 2 + 12 * struct.unpack_from("<H", data, offset)[0]
    return [*places, at]


def test_a_chain_of_pages_that_leads_in_a_circle_ends():
    data = bytearray(pages_of(*MIXED))
    places = chain(data)
    data[places[-1] : places[-1] + 4] = data[places[1] : places[1] + 4]
    decoded = decode_pages(bytes(data))
    assert len(decoded) == 4
    assert "leads in a circle after page 4" in decoded[0].warnings[0]


def test_a_chain_of_pages_that_leads_outside_is_said():
    data = bytearray(pages_of(*MIXED))
    struct.pack_into("<I", data, chain(data)[2], 1 << 31)
    decoded = decode_pages(bytes(data))
    assert len(decoded) == 2
    assert "breaks off after page 2" in decoded[0].warnings[0]


def test_pages_are_counted_together():
    data = pages_of(*MIXED)
    total = 3 * 96 * 72 + 50 * 30
    assert len(decode_pages(data, max_pixels=total)) == 4
    with pytest.raises(CodecError, match=f"4 pages of {total:,} pixels together are more than"):
        decode_pages(data, max_pixels=total - 1)


def test_more_pages_than_anybody_has_are_refused():
    one = pages_of((np.zeros((1, 1), np.uint8), {}))
    first = struct.unpack_from("<I", one, 4)[0]
    directory = one[first : chain(one)[1]]
    data = bytearray(one[:first])
    for _ in range(5000):
        data += directory + struct.pack("<I", len(data) + len(directory) + 4)
    with pytest.raises(CodecError, match="more than 4096 pages"):
        decode_pages(bytes(data))


# -- hostile files ---------------------------------------------------------------------------------


def changed(data, tag, value, index=0, form="<I"):
    data = bytearray(data)
    struct.pack_into(form, data, page(bytes(data)).tags[tag].valueoffset + 4 * index, value)
    return bytes(data)


STRIPS = tiff(small(), rowsperstrip=16)
TILES = tiff(small(), tile=(16, 16))
JPEG = tiff(gray(small()), compression="jpeg", rowsperstrip=32)
HOSTILE = {
    "strip-offset": (changed(STRIPS, 273, 1 << 30, 3), "strip 4 of 6 is said to be 3456 bytes at"),
    "strip-size": (changed(STRIPS, 279, 99), "strip 1 of 6 has 99 bytes of the 3456"),
    "strip-of-fewer-rows": (
        changed(STRIPS, 279, 3 * 216),
        "strip 1 of 6 has 648 bytes of the 3456",
    ),
    "tile-offset": (changed(TILES, 324, 1 << 30, 1), "tile 2 of 30 is said to be"),
    "million-by-million": (
        changed(changed(STRIPS, 256, 10**6), 257, 10**6),
        "1000000 x 1000000 pixels are more than the 250,000,000",
    ),
    "no-width": (changed(STRIPS, 256, 0), "does not say how large it is"),
    "wide-tiles": (changed(changed(TILES, 322, 1 << 20), 323, 1 << 20), "tiles of 10995"),
    "many-samples": (changed(STRIPS, 277, 999, form="<H"), "999 samples a pixel"),
    "jpeg-bomb": (
        JPEG.replace(struct.pack(">HH", 32, 72), struct.pack(">HH", 65000, 65000)),
        "JPEG header claims 65000 x 65000",
    ),
    "many-tags": (
        STRIPS[:8] + struct.pack("<H", 65535) + bytes(65535 * 12),
        "too few|how large|not",
    ),
    "no-directory": (STRIPS[:4] + struct.pack("<I", 1 << 31), "directory is said to be at byte"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_file_claims_is_held_against_what_it_has(case):
    data, reason = HOSTILE[case]
    with pytest.raises(CodecError, match=reason):
        decode(data)


DAMAGED = {
    "strips": STRIPS,
    "tiles": TILES,
    "planes": tiff(DEEP, planarconfig="separate", compression="lzw", predictor=2),
    "palette": tiff(
        gray(small())[..., 0], photometric="palette", colormap=np.zeros((3, 256), np.uint16)
    ),
    "fax": saved(Image.fromarray(small()).convert("1"), "TIFF", compression="group4"),
    "jpeg": JPEG,
    "float": tiff((DEEP / 65535).astype(np.float32)),
    "cmyk": tiff(np.dstack([DEEP, DEEP[..., 0]]), photometric="separated"),
    "lab": tiff(DEEP, photometric="cielab"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_any_tag_may_hold_anything(case):
    data = DAMAGED[case]
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    outcomes = set()
    for index in range(count):
        at = first + 2 + 12 * index
        for entry in (
            *(struct.pack("<HI", kind, 1) for kind in (1, 2, 3, 5, 7, 12, 99)),
            *(struct.pack("<HI", 3, amount) for amount in (0, 2, 3, 12, 1 << 31)),
            *(struct.pack("<HII", kind, 1, value) for kind in (3, 4) for value in (0, 2, 7, 65535)),
        ):
            changed_entry = bytearray(data)
            changed_entry[at + 2 : at + 2 + len(entry)] = entry
            try:
                outcomes.add(decode(bytes(changed_entry), max_pixels=100_000).pixels.size > 0)
            except CodecError as error:
                outcomes.add(str(error) != "")
    assert outcomes == {True}
