"""The compression that a file states is told as the libraries that wrote it were asked for it."""

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.photographs import saved, small
from transforms.codec import FORMATS, encode, form_of
from transforms.codec.compression import compression_of


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"subsampling": "4:4:4"}, "JPEG 4:4:4"),
        ({"subsampling": "4:2:2"}, "JPEG 4:2:2"),
        ({"subsampling": "4:2:0", "progressive": True}, "JPEG 4:2:0"),
    ],
)
def test_jpeg(options, told):
    assert compression_of(saved(small(), "JPEG", **options), "JPEG") == told


def test_gray_and_cmyk_jpeg():
    image = Image.fromarray(small())
    assert compression_of(saved(image.convert("L"), "JPEG"), "JPEG") == "JPEG gray"
    cmyk = saved(image.convert("CMYK"), "JPEG", subsampling="4:4:4")
    assert compression_of(cmyk, "JPEG") == "JPEG 4:4:4:4"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize(
    ("option", "told"),
    [(None, "none"), ("lzw", "LZW"), ("zlib", "deflate"), ("packbits", "PackBits")],
)
def test_tiff(order, big, option, told):
    out = io.BytesIO()
    tifffile.imwrite(out, small(), byteorder=order, bigtiff=big, compression=option)
    assert compression_of(out.getvalue(), "TIFF") == told
    assert compression_of(memoryview(out.getvalue()), "TIFF") == told


def test_webp_and_jpeg_2000():
    for lossless, told in ((True, "VP8 lossless"), (False, "VP8")):
        for more in ({}, {"exif": Image.Exif().tobytes(), "xmp": b"<x/>"}):
            data = saved(small(), "WEBP", lossless=lossless, **more)
            assert compression_of(data, "WEBP") == told
    for reversible, told in ((True, "JPEG 2000, reversible"), (False, "JPEG 2000")):
        for codec in ("jp2", "j2k"):
            data = imagecodecs.jpeg2k_encode(small(), reversible=reversible, codecformat=codec)
            assert compression_of(data, "JP2") == told


def test_every_format_that_is_written_is_told_and_no_garbage_breaks_it():
    pixels = small()
    for name in FORMATS:
        data = bytes(encode(form_of(pixels), pixels, name=name))
        assert compression_of(data, name), name
        rng = np.random.default_rng(0)
        for cut in range(0, 64, 3):
            compression_of(data[:cut], name)
            compression_of(data[:4] + rng.bytes(200), name)
    assert compression_of(b"", None) is None
