"""Masters come in upright and whole, and derivatives go out as their masters were."""

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, ImageOps
from skimage.color import lab2rgb, rgb2xyz, xyz2lab

from tests import photographs
from tests.photographs import gray, opened, saved, sixteen, small
from transforms.codec import EXTENSIONS, CodecError, Form, decode, encode
from transforms.record import Source
from transforms.write import Encoding

ORIENTATION = 0x112

turned = Image.Transpose
# How a file with each orientation stores an upright image (EXIF 2.32, section 4.6.4 A).
STORED = {
    1: None,
    2: turned.FLIP_LEFT_RIGHT,
    3: turned.ROTATE_180,
    4: turned.FLIP_TOP_BOTTOM,
    5: turned.TRANSPOSE,
    6: turned.ROTATE_90,
    7: turned.TRANSVERSE,
    8: turned.ROTATE_270,
}
LOSSLESS = {
    "PNG": ("PNG", {}),
    "TIFF": ("TIFF", {}),
    "TIFF-LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "WEBP": ("WEBP", {"lossless": True}),
}


def tagged(**tags):
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[int(tag.removeprefix("t"))] = value
    return exif


def stored(pixels, orientation):
    image = Image.fromarray(pixels)
    return image if orientation == 1 else image.transpose(STORED[orientation])


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("name", LOSSLESS)
def test_every_orientation_comes_out_upright_and_stays_so(name, orientation):
    pixels = small()
    form, options = LOSSLESS[name]
    data = saved(stored(pixels, orientation), form, exif=tagged(t274=orientation), **options)
    decoded = decode(data)
    assert np.array_equal(decoded.pixels, pixels)
    derivative = opened(encode(decoded.form, decoded.pixels))
    assert derivative.getexif().get(ORIENTATION) == 1
    assert np.array_equal(np.asarray(derivative), pixels)


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_of_a_jpeg_comes_out_upright(orientation):
    data = saved(stored(small(), orientation), "JPEG", exif=tagged(t274=orientation))
    decoded = decode(data)
    assert np.array_equal(decoded.pixels, ImageOps.exif_transpose(opened(data)))
    assert opened(encode(decoded.form, decoded.pixels)).getexif()[ORIENTATION] == 1


def test_alpha_is_turned_with_the_pixels():
    image = Image.fromarray(np.dstack([small(), gray(small("chelsea"))]))
    decoded = decode(saved(image.transpose(turned.ROTATE_90), "PNG", exif=tagged(t274=6)))
    assert np.array_equal(np.dstack([decoded.pixels, decoded.alpha]), np.asarray(image))


# -- modes -----------------------------------------------------------------------------------------

COLOUR = Image.fromarray(small())
SEE_THROUGH = Image.fromarray(np.dstack([small(), gray(small("chelsea"))]))
PALETTE = COLOUR.quantize(16)

# Image, format, options; the mode that all of it fits in; Pillow's mode of the derivative.
MODES = {
    "1-png": (COLOUR.convert("1"), "PNG", {}, "L", "1"),
    "1-fax-tiff": (COLOUR.convert("1"), "TIFF", {"compression": "group4"}, "L", "1"),
    "L-png": (COLOUR.convert("L"), "PNG", {}, "L", "L"),
    "L-tiff": (COLOUR.convert("L"), "TIFF", {"compression": "packbits"}, "L", "L"),
    "L-transparent-png": (COLOUR.convert("L"), "PNG", {"transparency": 90}, "LA", "LA"),
    "LA-png": (SEE_THROUGH.convert("LA"), "PNG", {}, "LA", "LA"),
    "LA-tiff": (SEE_THROUGH.convert("LA"), "TIFF", {}, "LA", "LA"),
    "P-png": (PALETTE, "PNG", {}, "RGB", "RGB"),
    "P-tiff": (PALETTE, "TIFF", {"compression": "tiff_lzw"}, "RGB", "RGB"),
    "P-transparent-png": (PALETTE, "PNG", {"transparency": 3}, "RGBA", "RGBA"),
    "P-half-transparent-png": (PALETTE, "PNG", {"transparency": bytes([9, 99])}, "RGBA", "RGBA"),
    "RGB-png": (COLOUR, "PNG", {}, "RGB", "RGB"),
    "RGB-transparent-png": (COLOUR, "PNG", {"transparency": (9, 8, 7)}, "RGBA", "RGBA"),
    "RGB-tiff": (COLOUR, "TIFF", {"compression": "tiff_adobe_deflate"}, "RGB", "RGB"),
    "RGB-bmp": (COLOUR, "BMP", {}, "RGB", "RGB"),
    "RGB-ppm": (COLOUR, "PPM", {}, "RGB", "RGB"),
    "RGB-webp": (COLOUR, "WEBP", {"lossless": True}, "RGB", "RGB"),
    "RGBA-png": (SEE_THROUGH, "PNG", {}, "RGBA", "RGBA"),
    "RGBA-tiff": (SEE_THROUGH, "TIFF", {}, "RGBA", "RGBA"),
    "RGBA-webp": (SEE_THROUGH, "WEBP", {"lossless": True, "exact": True}, "RGBA", "RGBA"),
    "CMYK-tiff": (COLOUR.convert("CMYK"), "TIFF", {}, "RGB", "CMYK"),
    "I;16-png": (Image.fromarray(sixteen(small())[..., 0]), "PNG", {}, "I;16", "I;16"),
    "I;16-tiff": (Image.fromarray(sixteen(small())[..., 0]), "TIFF", {}, "I;16", "I;16"),
}


@pytest.mark.parametrize("case", MODES)
def test_modes_come_in_and_go_out_without_loss(case):
    image, name, options, whole, after = MODES[case]
    data = saved(image, name, **options)
    expected = np.asarray(opened(data) if whole == "I;16" else opened(data).convert(whole))
    decoded = decode(data)
    assert decoded.pixels.shape[2:] == ((1,) if whole in ("L", "LA", "I;16") else (3,))
    assert (decoded.alpha is not None) == (whole in ("LA", "RGBA"))
    joined = decoded.pixels if decoded.alpha is None else np.dstack([decoded.pixels, decoded.alpha])
    assert np.array_equal(joined.reshape(expected.shape), expected)
    derivative = opened(encode(decoded.form, decoded.pixels, decoded.alpha))
    assert (derivative.format, derivative.mode) == (name, after)
    back = derivative if whole == "I;16" else derivative.convert(whole)
    assert np.array_equal(np.asarray(back), expected)


def test_a_bitmap_with_alpha_keeps_it():
    pixels, alpha = small(), gray(small("chelsea"))[..., 0]
    data = encode(Form(format="BMP", mode="RGBA", dpi=(300, 300)), pixels, alpha)
    image = opened(data)
    assert (image.format, image.mode) == ("BMP", "RGBA")
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert np.array_equal(np.asarray(image), np.dstack([pixels, alpha]))
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read[..., [2, 1, 0, 3]], np.dstack([pixels, alpha]))
    decoded = decode(data)
    assert encode(decoded.form, decoded.pixels, decoded.alpha) == data


READ_ONLY = {
    "TGA": {"compression": "tga_rle"},
    "SGI": {},
    "PCX": {},
    "DIB": {},
    "QOI": {},
    "IM": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_formats_that_are_only_read_go_out_as_png(name):
    data = saved(small(), name, **READ_ONLY[name])
    decoded = decode(data)
    assert decoded.form.format == name
    assert np.array_equal(decoded.pixels, np.asarray(opened(data)))
    with pytest.raises(CodecError, match=f"{name} is not written"):
        encode(decoded.form, decoded.pixels)
    derivative = opened(encode(decoded.form, decoded.pixels, name="PNG"))
    assert np.array_equal(np.asarray(derivative), decoded.pixels)
    extension = next(key for key, held in EXTENSIONS.items() if held == name)
    source = Source(f"a{extension}", "", 0, 0.0)
    assert Encoding().naming(source) == (f"a{extension}.png", "PNG")
    assert Encoding(untouched=True).naming(source) == (f"a{extension}", None)


@pytest.mark.parametrize("name", ["JPEG", "WEBP"])
def test_lossy_formats_come_back_close(name):
    decoded = decode(saved(small(), name, quality=95))
    derivative = opened(encode(decoded.form, decoded.pixels))
    assert derivative.format == name
    assert np.abs(np.asarray(derivative).astype(int) - decoded.pixels).mean() < 2


def test_quality_is_that_asked_for():
    form = decode(saved(small(), "JPEG")).form
    sizes = [len(encode(form, small(), quality=quality)) for quality in (20, 60, 95)]
    assert sizes == sorted(sizes)
    expected = opened(saved(small(), "JPEG", quality=60)).quantization
    assert opened(encode(form, small(), quality=60)).quantization == expected


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_tiff_is_not_a_negative(dtype, compression):
    levels = gray(small()) if dtype == np.uint8 else sixteen(small())[..., :1]
    out = io.BytesIO()
    inverted = np.iinfo(dtype).max - levels[..., 0]
    tifffile.imwrite(out, inverted, photometric="miniswhite", compression=compression)
    decoded = decode(out.getvalue())
    assert decoded.pixels.dtype == dtype
    assert np.array_equal(decoded.pixels, levels)
    derivative = tifffile.TiffFile(io.BytesIO(encode(decoded.form, levels))).pages[0]
    assert derivative.photometric.name == "MINISBLACK"
    assert np.array_equal(derivative.asarray(), levels[..., 0])


def test_big_endian_16_bit_gray_is_read_by_its_values():
    out = io.BytesIO()
    tifffile.imwrite(out, sixteen(small())[..., 0], byteorder=">", photometric="minisblack")
    assert np.array_equal(decode(out.getvalue()).pixels[..., 0], sixteen(small())[..., 0])


def test_lab_tiff_is_read_as_the_colours_it_holds():
    # TIFF holds L*a*b* under D50 (TIFF 6.0, section 23); from sRGB's D65 by Bradford (Lindbloom).
    bradford = [
        [1.0478112, 0.0228866, -0.0501270],
        [0.0295424, 0.9904844, -0.0170491],
        [-0.0092345, 0.0150436, 0.7521316],
    ]
    lab = xyz2lab(rgb2xyz(small()) @ np.transpose(bradford), illuminant="D50")
    stored_lab = np.rint(lab * [2.55, 1, 1]).astype(np.int16).astype(np.uint8)
    out = io.BytesIO()
    tifffile.imwrite(out, stored_lab, photometric="cielab")
    decoded = decode(out.getvalue())
    difference = np.abs(decoded.pixels.astype(int) - small())
    assert difference.mean() < 2, "8 bits of Lab are coarser than 8 bits of RGB"
    derivative = opened(encode(decoded.form, decoded.pixels))
    assert derivative.mode == "RGB"
    assert np.array_equal(np.asarray(derivative), decoded.pixels)


@pytest.mark.parametrize("name", ["TIFF", "JPEG"])
def test_cmyk_goes_through_its_own_profile_and_back(name):
    # On this press only K prints, L* = 100 - K: what C, M and Y say must not be seen.
    black = gray(small("chelsea"))[..., 0]
    inks = np.dstack([small(), black])
    icc = photographs.cmyk_profile()
    options = {"quality": 100, "subsampling": 0} if name == "JPEG" else {}
    data = saved(
        Image.frombytes("CMYK", black.shape[::-1], inks.tobytes()), name, icc_profile=icc, **options
    )
    decoded = decode(data)
    lightness = 100 - black / 2.55
    expected = lab2rgb(np.dstack([lightness, 0 * lightness, 0 * lightness])) * 255
    assert np.abs(decoded.pixels - expected).max() < (4 if name == "TIFF" else 12)
    derivative = opened(encode(decoded.form, decoded.pixels))
    assert (derivative.mode, derivative.info["icc_profile"]) == ("CMYK", icc)
    back = np.asarray(derivative).astype(int)
    assert back[..., :3].mean() < 1
    assert np.abs(back[..., 3] - black).mean() < 3


def test_cmyk_without_a_profile_converts_as_pillow_does():
    image = COLOUR.convert("CMYK")
    decoded = decode(saved(image, "JPEG", quality=95))
    assert np.array_equal(decoded.pixels, opened(saved(image, "JPEG", quality=95)).convert("RGB"))
    assert opened(encode(decoded.form, decoded.pixels)).mode == "CMYK"
    assert opened(encode(decoded.form, decoded.pixels, name="PNG")).mode == "RGB"


# In a process of its own: a refused fax encoding breaks Pillow's heap, and what runs after it.
COLOURED_FAX = """
from PIL import Image
from tests.photographs import opened, saved, small
from transforms.codec import decode, encode
form = decode(saved(Image.fromarray(small()).convert("1"), "TIFF", compression="group4")).form
derivative = opened(encode(form, small()))
assert (derivative.mode, derivative.tobytes()) == ("RGB", small().tobytes())
"""


def test_a_fax_that_got_colour_is_written_in_colour():
    root = Path(__file__).parents[1]
    run = [sys.executable, "-c", COLOURED_FAX]
    done = subprocess.run(run, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


def test_the_gaps_in_a_tiff_are_empty():
    """Left to memory, libtiff fills the byte between odd data and its directory with whatever was
    there before: of 100 files encoded this way, 60 differed.
    """
    generator = np.random.default_rng(0)
    pixels = np.ascontiguousarray(skimage.data.astronaut()[:200, :200])
    form = Form(format="TIFF", mode="RGB", notes={"compression": "tiff_lzw"})
    seen = set()
    for fill in range(100):
        used = [np.full(generator.integers(1000, 200_000), fill, np.uint8) for _ in range(5)]
        del used
        seen.add(encode(form, pixels))
    assert len(seen) == 1
