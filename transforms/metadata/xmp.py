"""XMP packets: read without trust, and edited where they stand, so that all else stays as it is.

A packet is XML of RDF (ISO 16684-1). Here it is taken apart only as far as its properties: where
each begins and ends. Packets that declare a document type are refused before anything of it is
looked at: XMP knows none, and entities are how XML reads other files or fills the memory.
"""

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from xml.parsers import expat

from transforms.metadata.blocks import MetadataError

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMP_MM = "http://ns.adobe.com/xap/1.0/mm/"
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
XMP = "http://ns.adobe.com/xap/1.0/"
XMP_NOTE = "http://ns.adobe.com/xmp/note/"

# Photoshop has written some of a hundred; what is larger is no description of a picture any more.
LARGEST = 16 << 20
_MOST, _MOST_PREFIXES = 20_000, 256

Name = tuple[str, str]  # namespace, local name


class Span(NamedTuple):
    """A piece of a packet, in bytes."""

    start: int
    stop: int


@dataclass(slots=True)
class Property:
    """A property of the image, as it stands in its packet.

    Attributes:
        name: namespace and local name.
        span: all of it: an element, or an attribute with the space before it.
        tags: where its name stands: once in an attribute, twice in an element with an end.
        value: the text of a simple one, still escaped; of others, what is inside.
        scope: prefixes in force, by prefix.
        simple: whether it is text alone.
        attribute: whether it is an attribute of rdf:Description, not an element.
        sequence_end: of an element with an rdf:Seq inside, where its end tag begins.
    """

    name: Name
    span: Span
    tags: tuple[Span, ...]
    value: Span
    scope: Mapping[str, str]
    simple: bool
    attribute: bool = False
    sequence_end: int | None = None


@dataclass(slots=True)
class Outline:
    """A packet's properties, and where more can be put.

    Attributes:
        packet: in UTF-8.
        properties: by name; of one that is there twice, the first.
        about: what the packet says it is about, still escaped.
        body: what is inside rdf:RDF; None where it is an empty element.
        rdf: all of rdf:RDF.
    """

    packet: bytes
    properties: dict[Name, Property]
    about: str
    body: Span | None
    rdf: Span

    def text(self, name: Name) -> str | None:
        """Give the text of a simple property, without XML's escapes; None if there is none."""
        found = self.properties.get(name)
        if found is None or not found.simple:
            return None
        return _plain(self.packet[found.value.start : found.value.stop].decode())


class Edit(NamedTuple):
    """A piece of a packet, and what to put in its place."""

    span: Span
    text: bytes


def edited(packet: bytes, edits: Iterable[Edit]) -> bytes:
    """Make changes to a packet, none of which overlap."""
    for (start, stop), text in sorted(edits, reverse=True):
        packet = packet[:start] + text + packet[stop:]
    return packet


def outline(packet: bytes) -> Outline:
    """Take a packet apart.

    Raises:
        MetadataError: it is not XML, no XMP, declares a document type or is too large.
    """
    if len(packet) > LARGEST:
        raise MetadataError(f"it has {len(packet):,} bytes, more than {LARGEST:,}")
    packet = _utf8(packet)
    reader = _Reader(packet)
    reader.parse()
    if reader.rdf is None:
        raise MetadataError("there is no rdf:RDF in it")
    return Outline(packet, reader.properties, reader.about, reader.body, reader.rdf)


# A byte order mark, or the zeros that UTF-16 and UTF-32 put beside a "<".
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0<", "utf-16-be"),
    (b"<\0", "utf-16-le"),
)
_DECLARATION = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.-]+)[\"'][^>]*\?>")


def _utf8(packet: bytes) -> bytes:
    """Give a packet in UTF-8, without the zeros that some writers put behind it."""
    encoding = next((name for mark, name in _ENCODINGS if packet.startswith(mark)), None)
    if encoding is None:
        packet = packet.removeprefix(codecs.BOM_UTF8).rstrip(b"\0")
    declared = None if encoding else _DECLARATION.match(packet)
    if declared and declared[1].lower() not in (b"utf-8", b"us-ascii"):
        encoding = declared[1].decode("ascii")
    if encoding is None:
        return packet
    try:
        text = packet.decode(encoding).lstrip("\ufeff").rstrip("\0")
    except (LookupError, UnicodeError) as error:
        raise MetadataError(f"its text cannot be decoded: {error}") from error
    again = text.encode("utf-8")
    declared = _DECLARATION.match(again)
    return again[declared.end() :] if declared else again


class _Reader:
    """What expat calls while it goes through a packet."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.properties: dict[Name, Property] = {}
        self.about = ""
        self.body: Span | None = None
        self.rdf: Span | None = None
        self._depth = 0
        self._rdf_depth: int | None = None
        self._rdf_tag = Span(0, 0)
        self._open: Property | None = None
        self._sequence = Span(0, 0)
        self._counted = 0
        self._scope: dict[str, list[str]] = {}
        self.parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartNamespaceDeclHandler = self._declare
        parser.EndNamespaceDeclHandler = self._forget

    def parse(self) -> None:
        try:
            self.parser.Parse(self.packet, True)
        except expat.ExpatError as error:
            raise MetadataError(f"it is not XML: {error}") from error

    def _refuse(self, *_: object) -> None:
        raise MetadataError("it declares a document type, as XMP never does")

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        self._scope.setdefault(prefix or "", []).append(uri or "")

    def _forget(self, prefix: str | None) -> None:
        self._scope[prefix or ""].pop()

    def _in_scope(self) -> dict[str, str]:
        if len(self._scope) > _MOST_PREFIXES:
            raise MetadataError(f"it has more than {_MOST_PREFIXES} namespaces")
        return {prefix: uris[-1] for prefix, uris in self._scope.items() if uris}

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        at = self.parser.CurrentByteIndex
        inside = None if self._rdf_depth is None else self._depth - self._rdf_depth
        if inside is None:
            if name == f"{RDF} RDF" and self.rdf is None:
                self._rdf_depth, self._rdf_tag = self._depth, self._tag(at)
        elif inside == 1:
            self._describe(at, attributes)
        elif inside == 2:
            tag = self._tag(at)
            self._open = Property(
                _split(name),
                Span(at, tag.stop),
                (_name_in(self.packet, at + 1),),
                Span(tag.stop, tag.stop),
                self._in_scope(),
                not attributes,
            )
        elif self._open is not None:
            self._open.simple = False
            if inside == 3 and name == f"{RDF} Seq":
                self._sequence = self._tag(at)

    def _describe(self, at: int, attributes: dict[str, str]) -> None:
        if f"{RDF} about" in attributes and not self.about:
            self.about = escaped(attributes[f"{RDF} about"])
        if not any(not name.startswith((RDF, "http://www.w3.org/XML")) for name in attributes):
            return
        self._count()
        scope = self._in_scope()
        tag = self._tag(at)
        for found in _ATTRIBUTE.finditer(self.packet, at, tag.stop):
            prefix = found["prefix"].decode()
            uri = scope.get(prefix)
            if prefix == "xmlns" or uri is None or uri == RDF:
                continue
            name = (uri, found["local"].decode())
            tags = (Span(found.start("prefix"), found.end("local")),)
            value = Span(found.start("value") + 1, found.end("value") - 1)
            self._add(Property(name, Span(*found.span()), tags, value, scope, True, True))

    def _end(self, name: str) -> None:
        at = self.parser.CurrentByteIndex
        inside = None if self._rdf_depth is None else self._depth - self._rdf_depth
        if inside == 0:
            tag = self._rdf_tag
            if self._is_empty(tag):
                self.rdf = tag
            else:
                self.body, self.rdf = Span(tag.stop, at), Span(tag.start, self._tag(at).stop)
            self._rdf_depth = None
        elif inside == 2 and self._open is not None:
            done, self._open = self._open, None
            if not self._is_empty(done.span):
                done.value = Span(done.value.start, at)
                done.span = Span(done.span.start, self._tag(at).stop)
                done.tags = (*done.tags, _name_in(self.packet, at + 2))
            self._add(done)
        elif inside == 3 and name == f"{RDF} Seq" and self._open is not None:
            self._open.sequence_end = None if self._is_empty(self._sequence) else at
        self._depth -= 1

    def _add(self, found: Property) -> None:
        self._count()
        self.properties.setdefault(found.name, found)

    def _count(self) -> None:
        self._counted += 1
        if self._counted > _MOST:
            raise MetadataError(f"it has more than {_MOST:,} properties")

    def _is_empty(self, tag: Span) -> bool:
        return self.packet[tag.stop - 2 : tag.stop] == b"/>"

    def _tag(self, at: int) -> Span:
        """Give the tag that begins here. Quoted values may hold anything but `<`."""
        found = _TAG.match(self.packet, at)
        if found is None:
            raise MetadataError("it is not XML that we can edit")
        return Span(*found.span())


_TAG = re.compile(rb"<(?:[^\"'>]|\"[^\"]*\"|'[^']*')*>")
_ATTRIBUTE = re.compile(
    rb"\s+(?P<prefix>[^\s=:\"'<>/]+):(?P<local>[^\s=:\"'<>/]+)\s*=\s*"
    rb"(?P<value>\"[^\"]*\"|'[^']*')"
)
_NAME = re.compile(rb"[^\s/>]+")


def _name_in(packet: bytes, at: int) -> Span:
    found = _NAME.match(packet, at)
    return Span(*found.span()) if found else Span(at, at)


def _split(name: str) -> Name:
    uri, _, local = name.rpartition(" ")
    return uri, local


def escaped(text: str) -> str:
    """Escape text for XML, in ASCII, so that it reads the same in any encoding.

    What XML cannot hold at all, control characters and lone surrogates, becomes U+FFFD.
    """
    text = _NOT_XML.sub("\ufffd", text)
    for mark, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(mark, escape)
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_REFERENCES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


def _plain(text: str) -> str:
    def meant(found: re.Match[str]) -> str:
        name = found[1]
        if name.startswith("#x"):
            return chr(int(name[2:], 16))
        return chr(int(name[1:])) if name.startswith("#") else _REFERENCES[name]

    return re.sub(r"&(#x[0-9a-fA-F]+|#[0-9]+|amp|lt|gt|quot|apos);", meant, text)


# -- edits -----------------------------------------------------------------------------------------

# What must be true of the derivative, if the packet tells it at all.
_ORIENTATION = (TIFF, "Orientation")
_WIDTHS = ((TIFF, "ImageWidth"), (EXIF, "PixelXDimension"))
_HEIGHTS = ((TIFF, "ImageLength"), (EXIF, "PixelYDimension"))
_THUMBNAILS = (XMP, "Thumbnails")


def orientation(packet: Outline) -> int | None:
    """Give the orientation that a packet tells, if it does."""
    told = (packet.text(_ORIENTATION) or "").strip()
    return int(told) if told in set("12345678") else None


def truths(packet: Outline, width: int, height: int) -> list[Edit]:
    """Give the edits that make a packet true of an upright derivative.

    Orientation becomes 1, the dimensions those given; thumbnails, which show the master, go.
    """
    wanted = {_ORIENTATION: 1, **dict.fromkeys(_WIDTHS, width), **dict.fromkeys(_HEIGHTS, height)}
    edits = []
    for name, value in wanted.items():
        found = packet.properties.get(name)
        if found is not None and found.simple and packet.text(name) != str(value):
            edits.append(Edit(found.value, str(value).encode()))
    if thumbnails := packet.properties.get(_THUMBNAILS):
        edits.append(Edit(thumbnails.span, b""))
    return edits


def amended(packet: bytes, width: int, height: int) -> bytes:
    """Make a packet true of an upright derivative; one that cannot be read stays as it is."""
    try:
        found = outline(packet)
    except MetadataError:
        return packet  # which is said, and what is done about it, where provenance is added
    edits = truths(found, width, height)
    return edited(found.packet, edits) if edits else packet


def renamed(packet: Outline, found: Property, uri: str, prefix: str, local: str) -> list[Edit]:
    """Give the edits that call an element something else, and leave its value alone."""
    name = f"{prefix}:{local}".encode()
    first, *others = found.tags
    declared = f'xmlns:{prefix}="'.encode()
    head = packet.packet[first.stop : packet.packet.index(b">", first.stop)]
    more = b"" if declared in head else b" " + declared + uri.encode() + b'"'
    return [Edit(first, name + more), *(Edit(tag, name) for tag in others)]


def inserted(packet: Outline, properties: str) -> Edit:
    """Give the edit that adds properties, in an rdf:Description of their own."""
    description = (
        f'<rdf:Description xmlns:rdf="{RDF}" rdf:about="{packet.about}">\n{properties}'
        "</rdf:Description>\n"
    ).encode()
    if packet.body is not None:
        return Edit(Span(packet.body.stop, packet.body.stop), description)
    start, stop = packet.rdf
    tag = packet.packet[start:stop]
    name = tag[1:].split()[0].rstrip(b"/>")
    opened = tag[: tag.rindex(b"/")] + b">"
    return Edit(packet.rdf, opened + description + b"</" + name + b">")


def new(properties: str) -> bytes:
    """Make a packet of properties."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f'<rdf:RDF xmlns:rdf="{RDF}">\n'
        f'<rdf:Description rdf:about="">\n{properties}</rdf:Description>\n'
        "</rdf:RDF>\n"
        "</x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    ).encode()


def elements(packet: Outline, names: Iterable[Name]) -> str:
    """Give properties as elements that declare their own prefixes, to be put elsewhere."""
    return "".join(_element(packet, packet.properties[name]) for name in names)


def _element(packet: Outline, found: Property) -> str:
    name = packet.packet[slice(*found.tags[0])]
    if found.attribute:
        whole = b"<%b>%b</%b>" % (name, packet.packet[slice(*found.value)], name)
    else:
        whole = packet.packet[slice(*found.span)]
    head = whole[: whole.index(b">")]
    declared = [
        f' xmlns{colon}{prefix}="{escaped(uri)}"'.encode()
        for prefix, uri in sorted(found.scope.items())
        for colon in (":" if prefix else "",)
        if uri and not re.search(rf"\sxmlns{colon}{re.escape(prefix)}\s*=".encode(), head)
    ]
    at = 1 + len(name)
    return b"".join((whole[:at], *declared, whole[at:], b"\n")).decode()
