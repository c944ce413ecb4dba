"""Real files of every kind that we read, small, of photographs: what mutations are made of.

The same code makes the same bytes, so that a mutation is told by a seed and a number.
"""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from PIL import Image

from tests.photographs import gray, gray_profile, saved, sixteen, small, srgb_profile
from transforms import codec
from transforms.metadata import directories
from transforms.metadata.directories import Field, Tree
from transforms.shards.writers import WRITERS, Sample

XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:'
    b'meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/'
    b'tiff/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" tiff:Orientation="1" '
    b'xmpMM:DocumentID="xmp.did:1"><dc:title><rdf:Alt><rdf:li xml:lang="x-default">A launch'
    b"</rdf:li></rdf:Alt></dc:title><xmpMM:History><rdf:Seq><rdf:li>scanned</rdf:li></rdf:Seq>"
    b'</xmpMM:History></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def _pixels(height=40, width=30):
    return small("astronaut", height, width)


@cache
def _srgb():
    """sRGB without the time at which it was made."""
    profile = srgb_profile()
    return profile[:24] + bytes(12) + profile[36:]


@cache
def exif(order="<"):
    """EXIF with a directory in each other, GPS, and a maker note that holds a directory."""
    entries = struct.pack("<HHHIIHHII", 2, 1, 4, 1, 7, 2, 2, 20, 38) + bytes(4)
    note = b"Nikon\0\2\0\0\0II*\0\x08\0\0\0" + entries + b"a note of twenty byte\0"

    def one(tag, kind, data, count=None):
        size = directories.SIZES[kind]
        return {
            tag: Field(tag, kind, count or len(data) // size, data, 400 if tag == 37500 else None)
        }

    short = struct.Struct(f"{order}H").pack
    inner = Tree(
        order,
        one(33434, 5, struct.pack(f"{order}II", 1, 60))
        | one(36867, 2, b"1969:07:16 13:32:00\0")
        | one(37500, 7, note)
        | one(40962, 3, short(30)),
        {directories.INTEROPERABILITY: Tree(order, one(1, 2, b"R98\0"))},
    )
    gps = Tree(order, one(1, 2, b"N\0") | one(2, 5, struct.pack(f"{order}6I", 28, 1, 36, 1, 0, 1)))
    tree = Tree(
        order,
        one(271, 2, b"Hasselblad\0")
        | one(274, 3, short(1))
        | one(282, 5, struct.pack(f"{order}II", 300, 1)),
        {directories.EXIF: inner, directories.GPS: gps},
    )
    return directories.stream(tree)[0]


# -- images ----------------------------------------------------------------------------------------


def _jpeg_with_all():
    iptc = b"\x1c\x02\x78\x00\x05Hello"
    photoshop = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc
    data = saved(_pixels(), "JPEG", exif=b"Exif\0\0" + exif(), icc_profile=_srgb(), xmp=XMP)
    held = b"Photoshop 3.0\0" + photoshop
    return data[:2] + struct.pack(">BBH", 0xFF, 0xED, len(held) + 2) + held + data[2:]


def _interlaced():
    """A PNG in Adam7's seven passes, which Pillow does not write."""
    pixels = _pixels()
    height, width, _ = pixels.shape
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    rows = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, across in passes
        for row in pixels[top::down, left::across]
        if row.size
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, data)
        for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_with_all():
    data = saved(_pixels(), "PNG", icc_profile=gray_profile(), dpi=(300, 300))
    more = (
        chunk(b"eXIf", exif(">"))
        + chunk(b"tEXt", b"Title\0A launch")
        + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"said " * 50))
        + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    )
    return data[:33] + more + data[33:]


def _tiff(pixels, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, metadata=None, **options)
    return out.getvalue()


def _tiff_pages(**options):
    out = io.BytesIO()
    with tifffile.TiffWriter(out, **options) as writer:
        for name in ("astronaut", "coffee", "rocket"):
            pixels = small(name, 24, 31)
            writer.write(pixels, metadata=None, compression="adobe_deflate", rowsperstrip=7)
    return out.getvalue()


def _tiff_with_all():
    form = codec.decode(_jpeg_with_all()).form
    return bytes(codec.encode(form, _pixels(), name="TIFF"))


def _frames(name, **options):
    images = [Image.fromarray(small(photo, 24, 31)) for photo in ("astronaut", "coffee", "rocket")]
    return saved(images[0], name, save_all=True, append_images=images[1:], **options)


def _written(name, pixels, alpha=None):
    form = codec.decode(_jpeg_with_all()).form
    return bytes(codec.encode(form, pixels, alpha, name=name))


def _codestream():
    data = _written("JP2", _pixels())
    return data[data.index(b"\xff\x4f\xff\x51") :]


def _bilevel():
    return Image.fromarray(gray(_pixels())[..., 0]).convert("1")


def _deep(height=40, width=30):
    return sixteen(_pixels(height, width))


IMAGES = {
    "JPEG": {
        "plain": lambda: saved(_pixels(), "JPEG"),
        "with-all": _jpeg_with_all,
        "progressive": lambda: saved(_pixels(), "JPEG", progressive=True, quality=80),
        "gray": lambda: saved(gray(_pixels()), "JPEG"),
        "cmyk": lambda: saved(Image.fromarray(_pixels()).convert("CMYK"), "JPEG"),
        "restarts": lambda: saved(_pixels(), "JPEG", restart_marker_blocks=2),
        "mpo": lambda: _frames("MPO"),
    },
    "PNG": {
        "plain": lambda: saved(_pixels(), "PNG"),
        "with-all": _png_with_all,
        "interlaced": _interlaced,
        "deep": lambda: bytes(codec.encode(codec.form_of(_deep()), _deep())),
        "deep-alpha": lambda: bytes(codec.encode(codec.form_of(_deep()), _deep(), _deep()[..., 0])),
        "palette": lambda: saved(Image.fromarray(_pixels()).quantize(16), "PNG", transparency=3),
        "animated": lambda: _frames("PNG"),
        "bilevel": lambda: saved(_bilevel(), "PNG"),
    },
    "TIFF": {
        "plain": lambda: _tiff(_pixels(), photometric="rgb", rowsperstrip=7),
        "with-all": _tiff_with_all,
        "deep": lambda: _tiff(_deep(), photometric="rgb", byteorder=">"),
        "deflate": lambda: _tiff(
            _deep(), photometric="rgb", compression="adobe_deflate", predictor=True
        ),
        "lzw": lambda: _tiff(_pixels(), photometric="rgb", compression="lzw", predictor=True),
        "packbits": lambda: _tiff(_pixels(), photometric="rgb", compression="packbits"),
        "zstd": lambda: _tiff(_pixels(), photometric="rgb", compression="zstd"),
        "lzma": lambda: _tiff(_pixels(), photometric="rgb", compression="lzma"),
        "jpeg": lambda: _tiff(_pixels(), photometric="rgb", compression="jpeg", tile=(16, 16)),
        "tiled": lambda: _tiff(_deep(50, 40), photometric="rgb", tile=(16, 32)),
        "planar": lambda: _tiff(
            np.moveaxis(_pixels(), -1, 0), photometric="rgb", planarconfig="separate"
        ),
        "float": lambda: _tiff(
            (_pixels() / 255).astype(np.float32),
            photometric="rgb",
            predictor=True,
            compression="adobe_deflate",
        ),
        "big": lambda: _tiff(_pixels(), photometric="rgb", bigtiff=True, compression="lzw"),
        "pages": _tiff_pages,
        "big-pages": lambda: _tiff_pages(bigtiff=True, byteorder=">"),
        "group4": lambda: saved(_bilevel(), "TIFF", compression="group4"),
        "palette": lambda: saved(Image.fromarray(_pixels()).quantize(16), "TIFF"),
        "cmyk": lambda: saved(Image.fromarray(_pixels()).convert("CMYK"), "TIFF"),
        "lab": lambda: saved(Image.fromarray(_pixels(), "LAB"), "TIFF"),
        "ycbcr": lambda: _tiff(_pixels(), photometric="ycbcr", compression="jpeg"),
    },
    "WEBP": {
        "lossy": lambda: saved(_pixels(), "WEBP"),
        "lossless": lambda: saved(_pixels(), "WEBP", lossless=True),
        "with-all": lambda: saved(
            Image.fromarray(np.dstack([_pixels(), _pixels()[..., 0]])),
            "WEBP",
            exif=exif(),
            xmp=XMP,
            icc_profile=_srgb(),
        ),
        "animated": lambda: _frames("WEBP"),
    },
    "JP2": {
        "plain": lambda: _written("JP2", _pixels()),
        "deep": lambda: _written("JP2", _deep()),
        "alpha": lambda: _written("JP2", _pixels(), _pixels()[..., 0]),
        "codestream": _codestream,
        "tiled": lambda: saved(_pixels(64, 64), "JPEG2000", tile_size=(32, 32), irreversible=True),
    },
    "other": {
        "gif": lambda: saved(_pixels(), "GIF"),
        "gif-animated": lambda: _frames("GIF"),
        "bmp": lambda: saved(_pixels(), "BMP"),
        "bmp-alpha": lambda: _written("BMP", _pixels(), _pixels()[..., 0]),
        "ppm": lambda: saved(_pixels(), "PPM"),
        "ppm-deep": lambda: bytes(codec.ppm.encode(_deep())),
        "pbm": lambda: saved(_bilevel(), "PPM"),
        "avif": lambda: saved(_pixels(), "AVIF"),
        "qoi": lambda: saved(_pixels(), "QOI"),
        "sgi": lambda: saved(_pixels(), "SGI"),
        "pcx": lambda: saved(_pixels(), "PCX"),
        "im": lambda: saved(_pixels(), "IM"),
        "ico": lambda: saved(_pixels(32, 32), "ICO"),
        "tga": lambda: saved(_pixels(), "TGA", compression="tga_rle"),
        "msp": lambda: saved(_bilevel(), "MSP"),
        "xbm": lambda: saved(_bilevel(), "XBM"),
    },
}
# What their files end in, by which they are found in an archive.
EXTENSION = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp", "JP2": ".jp2"}


# -- containers ------------------------------------------------------------------------------------


@cache
def held():
    """The images of each container, by name."""
    return {
        "album/a.jpg": IMAGES["JPEG"]["plain"](),
        "album/b.png": IMAGES["PNG"]["palette"](),
        "c.tif": IMAGES["TIFF"]["pages"](),
        "d.webp": IMAGES["WEBP"]["lossy"](),
    }


def tfrecord(images):
    return b"".join(_packed("tfrecord", images))


def _packed(kind, images):
    label = pa.scalar([7], pa.list_(pa.int64()))
    return (
        WRITERS[kind]
        .pack([Sample(name, data, {"label": label}) for name, data in images.items()])
        .parts
    )


def tar(images, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as file:
        for name, data in images.items():
            beside = name.rpartition(".")[0] + ".json" if "." in name else name + ".json"
            for called, content in ((name, data), (beside, b'{"label": 7}')):
                member = tarfile.TarInfo(called)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zipped(images, method=zipfile.ZIP_DEFLATED, wide=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in images.items():
            told = zipfile.ZipInfo.__new__(zipfile.ZipInfo)
            zipfile.ZipInfo.__init__(told, "x")
            told.filename = name.encode("utf-8", "replace").decode()
            told.compress_type = method
            with file.open(told, "w", force_zip64=wide) as member:
                member.write(data)
    return out.getvalue()


def parquet(images, codec_name="snappy", **options):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [
        {"bytes": data, "path": name.encode("utf-8", "replace").decode()}
        for name, data in images.items()
    ]
    table = pa.table(
        {"image": pa.array(rows, kind), "label": ["launch", None, "cat", "cat"][: len(rows)]}
    )
    out = io.BytesIO()
    pq.write_table(table, out, compression=codec_name, row_group_size=2, **options)
    return out.getvalue()


def _idx():
    pixels = np.stack(
        [gray(small(name, 12, 14))[..., 0] for name in ("astronaut", "coffee", "rocket")]
    )
    return bytes([0, 0, 8, 3]) + struct.pack(">3I", *pixels.shape) + pixels.tobytes()


def _stack():
    return np.stack([small(name, 12, 14) for name in ("astronaut", "coffee", "rocket")])


def _npy():
    out = io.BytesIO()
    np.save(out, _stack(), allow_pickle=False)
    return out.getvalue()


def _npz(save=np.savez_compressed):
    out = io.BytesIO()
    save(out, images=_stack(), labels=np.arange(3))
    return out.getvalue()


def _gzip(data):
    return gzip.compress(data, mtime=0)


CONTAINERS = {
    "tfrecord": {
        "plain": lambda images: tfrecord(images),
        "gzip": lambda images: _gzip(tfrecord(images)),
        "zlib": lambda images: zlib.compress(tfrecord(images)),
    },
    "webdataset": {
        "pax": tar,
        "gnu": lambda images: tar(images, tarfile.GNU_FORMAT),
        "ours": lambda images: b"".join(_packed("webdataset", images)),
        "gzip": lambda images: _gzip(tar(images)),
    },
    "zip": {
        "deflate": zipped,
        "stored": lambda images: zipped(images, zipfile.ZIP_STORED),
        "bzip2": lambda images: zipped(images, zipfile.ZIP_BZIP2),
        "lzma": lambda images: zipped(images, zipfile.ZIP_LZMA),
        "zip64": lambda images: zipped(images, wide=True),
    },
    "parquet": {
        **{
            name: (lambda images, name=name: parquet(images, name))
            for name in ("none", "snappy", "gzip", "brotli", "zstd", "lz4")
        },
        "pages-2": lambda images: parquet(images, data_page_version="2.0", use_dictionary=False),
        "checked": lambda images: parquet(images, write_page_checksum=True),
        "gzipped": lambda images: _gzip(parquet(images)),
    },
    "arrays": {
        "idx": lambda images: _idx(),
        "npy": lambda images: _npy(),
        "npz": lambda images: _npz(),
        "npz-stored": lambda images: _npz(np.savez),
    },
}
ENDING = {
    "tfrecord": ".tfrecord",
    "webdataset": ".tar",
    "zip": ".zip",
    "parquet": ".parquet",
    "idx": ".idx3-ubyte",
    "npy": ".npy",
    "npz": ".npz",
    "npz-stored": ".npz",
}


@cache
def image(kind, variant):
    """Bytes of an image file."""
    return IMAGES[kind][variant]()


@cache
def container(kind, variant):
    """Bytes of a container of the four images of `held`."""
    return CONTAINERS[kind][variant](held())


def name_of(kind, variant):
    """What a file of this kind is to be called, from its dot on."""
    if kind in CONTAINERS:
        return ENDING[variant if kind == "arrays" else kind]
    return EXTENSION.get(kind) or f".{variant.partition('-')[0]}"
