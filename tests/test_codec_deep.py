"""PNG, JPEG 2000 and PPM of more than 8 bits; OpenCV, Pillow and imagecodecs are the references."""

import io
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from tests import photographs
from tests.photographs import opened, saved, sixteen, small
from transforms.codec import CodecError, Stated, decode, encode, probe

DEEP = sixteen(small())
PIXELS = {
    "gray": DEEP[..., :1],
    "la": np.dstack([DEEP[..., 0], DEEP[..., 1]]),
    "rgb": DEEP,
    "rgba": np.dstack([DEEP, DEEP[..., 1]]),
}


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def joined(decoded):
    if decoded.alpha is None:
        return decoded.pixels
    return np.dstack([decoded.pixels, decoded.alpha])


def as_opencv(pixels):
    """OpenCV has blue first, and no gray with alpha."""
    if pixels.shape[-1] == 4:
        return pixels[..., [2, 1, 0, 3]]
    return pixels[..., ::-1] if pixels.shape[-1] == 3 else pixels


def png(pixels):
    if pixels.shape[-1] == 2:
        return bytes(imagecodecs.png_encode(pixels))
    return cv2.imencode(".png", as_opencv(pixels))[1].tobytes()


def read_png(data):
    return imagecodecs.png_decode(data).reshape(96, 72, -1)


@pytest.mark.parametrize("kind", PIXELS)
def test_png_of_16_bits_is_kept_in_every_sample(kind):
    pixels = PIXELS[kind]
    decoded = decode(png(pixels))
    assert decoded.form.bits == 16
    assert (
        decoded.form.mode
        == {"gray": "I;16", "la": "LA;16", "rgb": "RGB;16", "rgba": "RGBA;16"}[kind]
    )
    assert np.array_equal(joined(decoded), pixels)
    data = encode(decoded.form, decoded.pixels, decoded.alpha)
    assert np.array_equal(read_png(data), pixels)
    if kind != "la":
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(as_opencv(read.reshape(pixels.shape)), pixels)


def test_png_of_16_bits_keeps_what_it_says():
    exif = Image.Exif()
    exif.update({0x112: 1, 0x10E: "Aunt May"})
    xmp = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-"
        b"rdf-syntax-ns#'><rdf:Description rdf:about=''/></rdf:RDF></x:xmpmeta>"
    )
    icc = photographs.srgb_profile()
    data = png(DEEP)
    told = [
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc)),
        chunk(b"pHYs", struct.pack(">IIB", 11811, 23622, 1)),
        chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
        chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + xmp),
    ]
    data = data[:33] + b"".join(told) + data[33:]
    decoded = decode(data)
    assert decoded.warnings == ()
    again = encode(decoded.form, decoded.pixels)
    derivative = opened(again)
    assert derivative.info["icc_profile"] == icc
    assert derivative.info["dpi"] == pytest.approx((300, 600), abs=0.01)
    assert derivative.getexif()[0x10E] == "Aunt May"
    assert b"x:xmpmeta" in derivative.info["xmp"]
    assert np.array_equal(read_png(again), DEEP)


@pytest.mark.parametrize("kind", ["gray", "rgb"])
def test_one_transparent_colour_of_16_bits_becomes_alpha(kind):
    pixels = PIXELS[kind]
    key = pixels[40, 30]
    data = png(pixels)
    data = data[:33] + chunk(b"tRNS", key.astype(">u2").tobytes()) + data[33:]
    decoded = decode(data)
    assert np.array_equal(decoded.pixels, pixels)
    assert np.array_equal(decoded.alpha == 0, np.all(pixels == key, axis=-1))
    assert decoded.form.conversions == ("one transparent colour to alpha",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["rgb", "rgba"])
def test_every_orientation_of_a_deep_png_comes_out_upright(kind, orientation):
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    pixels = PIXELS[kind]
    exif = Image.Exif()
    exif[0x112] = orientation
    data = png(np.ascontiguousarray(turns[orientation](pixels)))
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    decoded = decode(data[:33] + chunk(b"eXIf", block) + data[33:])
    assert decoded.form.orientation == orientation
    assert np.array_equal(joined(decoded), pixels)
    derivative = opened(encode(decoded.form, decoded.pixels, decoded.alpha))
    assert derivative.getexif()[0x112] == 1


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["png", "jp2", "ppm"])
def test_a_deep_file_cut_short_is_refused(kind, share):
    data = {"png": png(DEEP), "jp2": jp2(DEEP), "ppm": ppm(DEEP)}[kind]
    with pytest.raises(CodecError, match="broken"):
        decode(data[: int(len(data) * share)])


# -- JPEG 2000 -------------------------------------------------------------------------------------


def jp2(pixels, codec="jp2", **options):
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat=codec, **options))


@pytest.mark.parametrize("codec", ["jp2", "j2k"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", PIXELS)
def test_jpeg_2000_is_kept_in_every_sample(kind, dtype, codec):
    pixels = np.ascontiguousarray(PIXELS[kind] if dtype == np.uint16 else PIXELS[kind] >> 8)
    pixels = pixels.astype(dtype)
    data = jp2(pixels, codec)
    decoded = decode(data)
    assert decoded.pixels.dtype == dtype
    assert decoded.form.bits == 8 * pixels.itemsize
    assert np.array_equal(joined(decoded), pixels)
    derivative = encode(decoded.form, decoded.pixels, decoded.alpha)
    assert derivative[:4] == data[:4]
    assert np.array_equal(imagecodecs.jpeg2k_decode(derivative).reshape(pixels.shape), pixels)
    if dtype == np.uint8 or kind == "gray":
        image = opened(derivative)
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)
        assert image.mode == {"gray": "L", "la": "LA", "rgb": "RGB", "rgba": "RGBA"}[kind] or (
            image.mode == "I;16"
        )


def test_a_profile_of_jpeg_2000_is_kept():
    icc = photographs.srgb_profile()
    form = decode(saved(small(), "TIFF", icc_profile=icc)).form
    data = encode(form, small(), name="JP2")
    decoded = decode(data)
    assert decoded.form.icc == icc
    again = encode(decoded.form, decoded.pixels)
    assert again == data
    assert np.array_equal(imagecodecs.jpeg2k_decode(again), small())


@pytest.mark.parametrize("bits", [10, 12])
def test_jpeg_2000_of_other_depths_fills_16_bits(bits):
    levels = DEEP >> (16 - bits)
    decoded = decode(jp2(levels, bitspersample=bits))
    assert decoded.form.bits == bits
    assert np.array_equal(np.rint(decoded.pixels / 65535 * ((1 << bits) - 1)), levels)
    assert decoded.form.conversions == (f"{bits}-bit samples scaled to 16 bits",)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 33])
def test_small_jpeg_2000_can_be_written(side):
    pixels = DEEP[:side, : side + 1]
    form = decode(jp2(DEEP)).form
    assert np.array_equal(decode(encode(form, pixels)).pixels, pixels)


@pytest.mark.parametrize("codec", ["jp2", "j2k"])
def test_the_size_of_jpeg_2000_is_read_without_decoding(codec):
    data = jp2(DEEP, codec)
    assert probe(io.BytesIO(data)) == Stated("JP2", "RGB;16", 72, 96)
    huge = data.replace(struct.pack(">II", 72, 96), struct.pack(">II", 10**6, 10**6))
    with pytest.raises(CodecError, match="1000000 x 1000000 pixels are more than"):
        decode(huge)


# -- PPM -------------------------------------------------------------------------------------------


def ppm(pixels, top=65535):
    head = f"P{6 if pixels.shape[-1] == 3 else 5}\n# a comment\n72 96\n{top}\n"
    return head.encode() + pixels.astype(">u2").tobytes()


@pytest.mark.parametrize("kind", ["gray", "rgb"])
def test_ppm_of_16_bits_is_kept_in_every_sample(kind):
    pixels = PIXELS[kind]
    decoded = decode(ppm(pixels))
    assert np.array_equal(decoded.pixels, pixels)
    data = encode(decoded.form, decoded.pixels)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(as_opencv(read.reshape(pixels.shape)), pixels)


def test_plain_ppm_of_16_bits_is_read():
    text = " ".join(map(str, DEEP.ravel()))
    assert np.array_equal(decode(f"P3 72 96 65535\n{text}\n".encode()).pixels, DEEP)


def test_ppm_of_other_white_fills_16_bits():
    levels = DEEP // 66
    decoded = decode(ppm(levels, 1000))
    assert np.array_equal(np.rint(decoded.pixels / 65535 * 1000), levels)
    assert decoded.form.conversions == ("samples of 0 to 1000 scaled to 16 bits",)
    with pytest.raises(CodecError, match="brighter ones than white"):
        decode(ppm(DEEP, 1000))


@pytest.mark.parametrize("name", ["PNG", "TIFF", "JP2"])
@pytest.mark.parametrize("kind", PIXELS)
def test_16_bits_go_from_format_to_format(kind, name):
    pixels = PIXELS[kind]
    for data in (png(pixels), jp2(pixels)):
        decoded = decode(data)
        derivative = decode(encode(decoded.form, decoded.pixels, decoded.alpha, name=name))
        assert derivative.form.format == name
        assert np.array_equal(joined(derivative), pixels)


def test_gray_stays_gray():
    for name in ("PNG", "TIFF", "JP2", "PPM"):
        data = encode(decode(png(DEEP[..., :1])).form, DEEP[..., :1], name=name)
        assert decode(data).pixels.shape == (96, 72, 1)
