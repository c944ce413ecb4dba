"""What is no sound image is refused in words, whatever its bytes; metadata is never a reason."""

import io
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.photographs import gray, opened, photo, saved, sixteen, small
from transforms.codec import (
    EXTENSIONS,
    FORMATS,
    READ_ONLY,
    CodecError,
    Form,
    Stated,
    decode,
    encode,
    probe,
)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width, height):
    """A PNG that says its size and holds next to nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


JPEG = saved(photo("coffee"), "JPEG")
PNG = saved(photo("coffee"), "PNG")

BROKEN = {
    "empty": (b"", "the file is empty"),
    "text": (b"Dear Aunt May,\n" * 20, "not an image of a format"),
    "zeros": (bytes(5000), "not an image of a format"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\n", "not an image of a format"),
    "half-jpeg": (JPEG[: len(JPEG) // 2], "broken JPEG data: .*truncated"),
    "jpeg-header": (JPEG[:300], "broken"),
    "jpeg-magic": (JPEG[:3], "broken|not an image"),
    "half-png": (PNG[: len(PNG) // 2], "broken PNG data: .*truncated"),
    "png-magic": (PNG[:8], "broken|not an image"),
    "bomb": (png_header(60000, 60000), "60000 x 60000 pixels are more than the 250,000,000"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_image_is_refused_with_the_reason(case):
    data, reason = BROKEN[case]
    with pytest.raises(CodecError, match=reason):
        decode(data)


@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_file_cut_short_is_refused(name, share):
    data = saved(small(), name)
    with pytest.raises(CodecError):
        decode(data[: int(len(data) * share)])


PAGES = {"save_all": True, "append_images": [Image.fromarray(small("chelsea"))]}
EXIF = Image.Exif()
EXIF.update({0x112: 6, 0x10E: "Aunt May"})
WHOLE = {
    "jpeg": saved(small(), "JPEG", exif=EXIF),
    "png": saved(small(), "PNG", exif=EXIF, dpi=(300, 300)),
    "webp": saved(small(), "WEBP", exif=EXIF),
    "bmp": saved(small(), "BMP"),
    "ppm": saved(small(), "PPM"),
    "gif-frames": saved(small(), "GIF", **PAGES),
    "tiff": saved(small(), "TIFF", exif=EXIF),
    "tiff-lzw": saved(small(), "TIFF", compression="tiff_lzw"),
    "tiff-pages": saved(small(), "TIFF", **PAGES),
    "png-16": bytes(imagecodecs.png_encode(sixteen(small()))),
    "ppm-16": b"P6 72 96 65535\n" + sixteen(small()).astype(">u2").tobytes(),
    "jp2": bytes(imagecodecs.jpeg2k_encode(sixteen(small()), level=0, codecformat="jp2")),
    "j2k": bytes(imagecodecs.jpeg2k_encode(small(), level=0, codecformat="j2k")),
    "tga": saved(small(), "TGA"),
}


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it mends
@pytest.mark.parametrize("case", WHOLE)
def test_damage_anywhere_is_refused_in_our_words_or_decoded(case):
    draw = random.Random(case)
    for _ in range(250):
        data = bytearray(WHOLE[case])
        reach = draw.choice([60, len(data)])  # most of what can go wrong is at the start
        for _ in range(draw.choice([1, 1, 2, 4])):
            data[draw.randrange(reach)] = draw.randrange(256)
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
        probe(io.BytesIO(data))
        try:
            decoded = decode(bytes(data), max_pixels=1_000_000)
        except CodecError as error:
            assert str(error)
        else:
            assert decoded.pixels.size


def test_a_first_page_is_restored_though_the_second_is_beyond_us():
    data = bytearray(WHOLE["tiff-pages"])
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * count)
    data[second : second + 14] = struct.pack("<HHHII", 1, 0x103, 3, 1, 34661)  # JBIG, no size
    try:
        decoded = decode(bytes(data))
    except CodecError:
        return  # refusing it in our words is as good
    assert np.array_equal(decoded.pixels, small())


def test_the_limit_of_pixels_is_the_callers():
    data = saved(small(), "PNG")
    with pytest.raises(CodecError, match="72 x 96 pixels are more than the 6,911 of --max_pixels"):
        decode(data, max_pixels=6911)
    assert decode(data, max_pixels=6912).pixels.shape == (96, 72, 3)


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_pillows_limit_for_the_process_neither_holds_nor_changes(monkeypatch, name):
    # A stand-in for 89 megapixels, in proportion to what is converted at a time (4 megapixels).
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_300_000)
    tall = gray(np.tile(photo(), (1, 4, 1))).repeat(5, 0)[:2100]
    decoded = decode(saved(tall, name))
    assert np.array_equal(decoded.pixels, tall)
    assert Image.MAX_IMAGE_PIXELS == 4_300_000


def test_pillows_limit_is_left_alone_by_many_threads():
    before = Image.MAX_IMAGE_PIXELS

    def attempt(data):
        try:
            return decode(data).pixels.shape
        except CodecError:
            return None

    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(attempt, [saved(small(), "PNG"), b"text", PNG[:500]] * 20))
    assert shapes == [(96, 72, 3), None, None] * 20
    assert before == Image.MAX_IMAGE_PIXELS


PILLOWS = {"JP2": "JPEG2000"}  # names of formats, where they are not ours


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
def test_an_image_of_one_pixel_works(name, channels):
    name = PILLOWS.get(name, name)
    data = saved(small(height=1, width=1)[..., :channels], name)
    decoded = decode(data)
    assert decoded.pixels.shape[:2] == (1, 1)
    derivative = opened(encode(decoded.form, decoded.pixels, decoded.alpha))
    derivative.load()
    assert (derivative.format, derivative.size) == (name, (1, 1))


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "MPO"])
def test_more_frames_are_not_passed_over_in_silence(name):
    decoded = decode(saved(small(), name, **PAGES))
    assert "only the first of 2 frames is restored" in decoded.warnings
    assert decoded.pixels.shape == (96, 72, 3)


def test_one_sound_page_needs_no_warning():
    assert decode(WHOLE["tiff"]).warnings == decode(WHOLE["jpeg"]).warnings == ()


@pytest.mark.parametrize("name", FORMATS)
def test_probing_gives_the_stated_size_and_none_for_what_is_no_image(name):
    mode = "P" if name == "GIF" else "RGB"
    assert probe(io.BytesIO(saved(small(), PILLOWS.get(name, name)))) == Stated(name, mode, 72, 96)
    assert probe(io.BytesIO(b"not an image")) is None
    assert probe(io.BytesIO(png_header(60000, 50000))) == Stated("PNG", "RGB", 60000, 50000)


def test_every_extension_belongs_to_one_format():
    listed = [extension for known in FORMATS.values() for extension in known.extensions]
    listed += [extension for known in READ_ONLY.values() for extension in known]
    assert len(listed) == len(set(listed)) == len(EXTENSIONS)
    assert all(
        Image.registered_extensions().get(e, "JPEG") in {PILLOWS.get(n, n), "MPO"}
        for e, n in EXTENSIONS.items()
    )


# -- what must not be cut in silence ---------------------------------------------------------------


def tiff(pixels, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


DEEP = sixteen(small())
TOO_DEEP = {
    "float": (tiff(DEEP[..., 0].astype(np.float32)), "float32 samples go from 4[0-9]+ to 6[0-9]+"),
    "float-nan": (tiff(np.full((9, 9), np.nan, np.float32)), "float32 samples go from nan"),
    "32": (tiff(DEEP[..., 0].astype(np.uint32)), "32-bit integers would be cut to 16 bits"),
    "signed": (tiff(-DEEP[..., 0].astype(np.int16)), "signed and some are negative"),
    "sgi": (saved(small(), "SGI", bpc=2), "more than 8 bits a sample of SGI would be cut to 8"),
    "avif": (
        bytes(imagecodecs.avif_encode(DEEP >> 6, bitspersample=10)),
        "more than 8 bits a sample of AVIF would be cut to 8",
    ),
    "complex": (tiff(DEEP[..., 0].astype(np.complex64)), "are no photograph"),
}


@pytest.mark.parametrize("case", TOO_DEEP)
def test_depth_that_would_be_cut_is_refused_with_the_reason(case):
    data, reason = TOO_DEEP[case]
    with pytest.raises(CodecError, match=reason):
        decode(data)


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "GIF", "BMP"])
def test_16_bit_gray_is_not_written_to_formats_of_8_bits(name):
    with pytest.raises(CodecError, match=r"--image_format"):
        encode(Form(format="PNG", mode="I;16"), DEEP[..., :1], name=name)


@pytest.mark.parametrize("name", ["JPEG", "PPM"])
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
def test_alpha_is_not_written_to_formats_without(name, channels):
    pixels = small()[..., :channels]
    with pytest.raises(CodecError, match=r"--image_format"):
        encode(Form(format=name, mode="RGBA"), pixels, gray(small())[..., 0])


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_that_unpacks_to_too_much_costs_itself_and_not_the_image(kind):
    head = {b"zTXt": b"key\0\0", b"iTXt": b"key\0\1\0\0\0", b"iCCP": b"key\0\0"}[kind]
    bomb = chunk(kind, head + zlib.compress(bytes(64 << 20)))
    data = saved(small(), "PNG")
    decoded = decode(data[:33] + bomb + data[33:])
    assert np.array_equal(decoded.pixels, small())
    assert decoded.warnings == (f"{kind.decode()} of the PNG unpacks to too much to be read",)
