"""Metadata in TIFF: tags of the directory of each picture, and directories within it.

What of a directory describes the photograph is taken out as an EXIF block, in which it can go into
a file of any format; what describes how the picture is stored stays with the codec.
"""

from collections.abc import Iterator
from dataclasses import replace

from transforms.metadata import directories, exif
from transforms.metadata.blocks import Blocks, Found, MetadataError
from transforms.metadata.directories import (
    UNDEFINED,
    Directory,
    Entry,
    Field,
    Layout,
    Tree,
    directory,
    layout_of,
    stream,
    tree_of,
    value,
)

_XMP, _ICC = 700, 34675

# How the picture is stored, in TIFF 6.0, its supplements and libtiff's tags: the codec's matter.
STORAGE = frozenset(
    {
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281),
        *(284, 288, 289, 290, 291, 292, 293, 317, 320, 321, 322, 323, 324, 325, 326, 327, 328),
        *(330, 332, 334, 336, 338, 339, 340, 341, 343, 344, 345, 346, 347, 351, 400, 401, 402),
        *(403, 404, 405, 433, 434, 435, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530),
        *(531, 559, 34675, 34676, 50674, 50908),
    }
)
_BLOCKS = frozenset({_XMP, exif.IPTC, exif.PHOTOSHOP})
# Pictures of the master in another shape, which would show what the derivative is no longer.
_PICTURES = {330: "sub-images", 37724: "the layers of Photoshop"}

_LARGEST = 4 << 20  # of a tag that no standard of metadata knows: the rest is data, not description
_MOST_PAGES = 10_000


def pages(data: directories.Buffer) -> Iterator[Directory]:
    """Give the directories of a TIFF's pages, as far as they can be read; a circle ends them.

    Raises:
        MetadataError: it is no TIFF, or has no directory.
    """
    layout = layout_of(data)
    at, seen = layout.first, set[int]()
    while at and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        page = directory(data, layout, at)
        yield page
        at = page.following


def read(data: bytes | memoryview, page: int = 0) -> Found:
    """Read the blocks of one page of a TIFF.

    Orientation is among them, in EXIF.
    """
    try:
        layout = layout_of(data)
        found = next((one for number, one in enumerate(pages(data)) if number == page), None)
    except MetadataError:
        found = None
    return Found(Blocks()) if found is None else of_page(data, layout, found)


def of_page(data: directories.Buffer, layout: Layout, found: Directory) -> Found:
    """Read the blocks of a page, of which the directory is known."""
    warnings = [f"{name} were left out" for tag, name in _PICTURES.items() if found.find(tag)]
    large = {
        entry.tag: entry.size
        for entry in found.entries
        if entry.size > _LARGEST and entry.tag not in STORAGE | _BLOCKS | set(_PICTURES)
    }
    warnings += [f"tag {tag} of {size:,} bytes was left out" for tag, size in large.items()]
    apart = STORAGE | _BLOCKS | set(_PICTURES) | set(large)
    tree, troubles = tree_of(data, layout, found, without=frozenset(apart))
    _drop_offsets(tree)
    if troubles:
        warnings.append(f"some of the TIFF's tags cannot be read ({troubles[0]}): left out")
    blocks = Blocks(resolution=exif.resolution_in(data, layout, found))
    if tree.fields or tree.nested:
        block, said = stream(tree)
        warnings += said
        blocks = replace(blocks, exif=block)
    iptc, resources, packet = (
        None if entry is None else value(data, entry)
        for entry in map(found.find, (exif.IPTC, exif.PHOTOSHOP, _XMP))
    )
    if iptc is not None:
        iptc = _in_file_order(iptc, found.find(exif.IPTC), layout)
    blocks = replace(blocks, iptc=iptc or None, photoshop=resources or None, xmp=packet or None)
    return Found(blocks, tuple(warnings))


def _drop_offsets(tree: Tree) -> None:
    """Drop what is an offset into the file, of a directory that we do not know."""
    for tag in [tag for tag, kept in tree.fields.items() if kept.type in (13, 18)]:
        del tree.fields[tag]


def _in_file_order(datasets: bytes, entry: Entry | None, layout: Layout) -> bytes:
    """Undo what writers do that call IPTC an array of LONG and turn it with the file's order."""
    if entry is None or entry.type != directories.LONG or datasets[:1] == b"\x1c":
        return datasets
    kept = Field(entry.tag, entry.type, entry.count, datasets)
    other = ">" if layout.order == "<" else "<"
    turned = Tree(layout.order, {entry.tag: kept}).turned(other).fields[entry.tag].data
    return turned if turned[:1] == b"\x1c" else datasets


def tags(blocks: Blocks, order: str) -> tuple[Tree, list[str]]:
    """Give the tags that hold metadata in the directory of a page.

    Args:
        blocks: already amended.
        order: byte order of the TIFF.

    Returns:
        The tags, none of which says how the picture is stored, and what could not be held.
    """
    tree = Tree(order)
    warnings = _add(tree, blocks.exif) if blocks.exif else []
    if blocks.resolution and exif.X_RESOLUTION not in tree.fields:
        for field in exif.resolution_fields(blocks.resolution, order):
            tree.fields[field.tag] = field
    held = {
        _XMP: (1, blocks.xmp),
        exif.PHOTOSHOP: (1, blocks.photoshop),
        exif.IPTC: (UNDEFINED, blocks.iptc),
    }
    for tag, (kind, block) in held.items():
        if block:
            tree.fields[tag] = Field(tag, kind, len(block), block)
        else:
            tree.fields.pop(tag, None)
    if blocks.remarks:
        warnings.append(f"TIFF holds no comments: {len(blocks.remarks)} were left out")
    return tree, warnings


def _add(tree: Tree, block: bytes) -> list[str]:
    """Add what an EXIF block says to the tags of a picture."""
    try:
        layout = layout_of(block)
        main = directory(block, layout, layout.first)
    except MetadataError as error:
        return [f"EXIF of {len(block):,} bytes was left out: it cannot be read ({error})"]
    told, troubles = tree_of(block, layout, main, without=STORAGE)
    turned = told.turned(tree.order)
    tree.fields |= turned.fields
    tree.nested |= turned.nested
    return [f"some of EXIF cannot be read ({troubles[0]}) and was left out"] if troubles else []
