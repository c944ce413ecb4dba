"""What a derivative says of how it was made, in XMP.

Written are the source type of IPTC's photo metadata standard, what the image was derived from, and
an event of its history (XMP specification, part 2, section 2.2). The time is left out: the same job
writes the same bytes, and the ledger is where times are.
"""

import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from transforms.metadata import xmp
from transforms.metadata.blocks import MetadataError
from transforms.metadata.xmp import XMP_MM, Edit, Outline, escaped

# IPTC's vocabulary, https://cv.iptc.org/newscodes/digitalsourcetype/, without what is retired.
SOURCE_TYPES = (
    "digitalCapture",
    "computationalCapture",
    "negativeFilm",
    "positiveFilm",
    "print",
    "humanEdits",
    "algorithmicallyEnhanced",
    "dataDrivenMedia",
    "digitalCreation",
    "trainedAlgorithmicMedia",
    "algorithmicMedia",
    "screenCapture",
    "virtualRecording",
    "composite",
    "compositeCapture",
    "compositeSynthetic",
    "compositeWithTrainedAlgorithmicMedia",
)
ALTERED, GENERATED = "algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia"

_SOURCE_TYPE_URI = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_NAMESPACE, _PREFIX = "urn:heliograph:xmp:1.0/", "heliograph"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_REFERENCE = "http://ns.adobe.com/xap/1.0/sType/ResourceRef#"

# What says something else of the derivative than of its master, whose own value is kept under
# another name: the master may say that it was scanned from a print.
_REPLACED = {
    (_IPTC_EXT, "DigitalSourceType"): "MasterDigitalSourceType",
    (XMP_MM, "DerivedFrom"): "MasterDerivedFrom",
    (XMP_MM, "InstanceID"): "MasterInstanceID",
}
_HISTORY = (XMP_MM, "History")
_FORMAT = ("http://purl.org/dc/elements/1.1/", "format")

# As dc:format tells them.
MIME_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "JP2": "image/jp2",
}


@dataclass(frozen=True, slots=True)
class Tool:
    """What made the derivatives of a job, as they are to say it.

    Attributes:
        agent: name and version of the software.
        source_type: one of `SOURCE_TYPES`.
        done: what was done, in a sentence for people.
        parameters: what decides the result, by name, in order.
    """

    agent: str
    source_type: str
    done: str
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """What one derivative was made from.

    Attributes:
        key: of the master in its archive.
        sha256: of the master's bytes, in hexadecimal; of an array's, its pixels.
        parameters: what was done to this image alone, by name, such as its recipe.
    """

    key: str
    sha256: str
    parameters: tuple[tuple[str, str], ...] = ()


class Provenance(NamedTuple):
    """What a derivative is to say of itself.

    Attributes:
        tool: what made it.
        origin: what it was made from.
        format: what it is, a key of `MIME_TYPES`; None to leave what the master says.
    """

    tool: Tool
    origin: Origin
    format: str | None = None


def recorded(packet: bytes | None, made: Provenance) -> tuple[bytes, list[str]]:
    """Add provenance to a master's XMP, or make a packet of it.

    A packet that cannot be read is not passed on to readers that might trust it: the new packet
    holds its bytes in base64, from where they can be had again.

    Args:
        packet: the master's, or None.
        made: what to say.

    Returns:
        The packet, and what a person should know.
    """
    tool, origin, format_ = made
    if packet is None or not packet.strip(b"\0\t\n\r "):
        return xmp.new(_properties(None, tool, origin)), []
    try:
        found = xmp.outline(packet)
    except MetadataError as error:
        return _beside(packet, str(error), tool, origin)
    edits, more = _making_room(found, tool, origin)
    stated, mime = found.properties.get(_FORMAT), MIME_TYPES.get(format_ or "")
    if mime and stated and stated.simple and found.text(_FORMAT) != mime:
        edits.append(Edit(stated.value, mime.encode()))
    edits.append(xmp.inserted(found, _properties(found, tool, origin) + more))
    return xmp.edited(found.packet, edits), []


def _beside(packet: bytes, why: str, tool: Tool, origin: Origin) -> tuple[bytes, list[str]]:
    ours = _properties(None, tool, origin)
    if len(packet) > xmp.LARGEST:
        return xmp.new(ours), [f"XMP cannot be read ({why}) and was left out"]
    kept = base64.b64encode(packet).decode("ascii")
    ours += _own("MasterPacket", kept)
    return xmp.new(ours), [
        f"XMP cannot be read ({why}): its bytes are kept in base64, as "
        f"{_PREFIX}:MasterPacket of the new packet"
    ]


def _making_room(found: Outline, tool: Tool, origin: Origin) -> tuple[list[Edit], str]:
    """Give the edits that move what is in the way, and properties to write anew for it."""
    edits: list[Edit] = []
    anew = ""
    for name, kept_as in _REPLACED.items():
        held = found.properties.get(name)
        before = found.properties.get((_NAMESPACE, kept_as))
        if held is None:
            continue
        if before is not None:  # a derivative of a derivative: its first master's word is kept
            edits.append(Edit(held.span, b""))
        elif held.attribute:
            edits.append(Edit(held.span, b""))
            value = found.packet[slice(*held.value)].decode()
            anew += _own(kept_as, value)
        else:
            edits += xmp.renamed(found, held, _NAMESPACE, _PREFIX, kept_as)
    if history := found.properties.get(_HISTORY):
        event = _event(tool, origin).encode()
        if history.sequence_end is not None:
            edits.append(Edit(xmp.Span(history.sequence_end, history.sequence_end), event))
        else:  # empty, or no list of events
            edits.append(Edit(history.span, b""))
            anew += _history(tool, origin)
    return edits, anew


def _properties(found: Outline | None, tool: Tool, origin: Origin) -> str:
    reference = [
        ("instanceID", f"urn:sha256:{origin.sha256}"),
        *_named(found, ("DocumentID", "documentID"), ("OriginalDocumentID", "originalDocumentID")),
        ("filePath", origin.key),
    ]
    written = (
        f'<Iptc4xmpExt:DigitalSourceType xmlns:Iptc4xmpExt="{_IPTC_EXT}">'
        f"{_SOURCE_TYPE_URI}{tool.source_type}</Iptc4xmpExt:DigitalSourceType>\n"
        f'<xmpMM:DerivedFrom xmlns:xmpMM="{XMP_MM}" xmlns:stRef="{_REFERENCE}" '
        f'rdf:parseType="Resource">{_simple("stRef", reference)}</xmpMM:DerivedFrom>\n'
        f'<xmpMM:InstanceID xmlns:xmpMM="{XMP_MM}">{_instance(tool, origin)}</xmpMM:InstanceID>\n'
    )
    if found is None or _HISTORY not in found.properties:
        written += _history(tool, origin)
    return written


def _own(name: str, text: str) -> str:
    """Make a property of ours of text that is escaped."""
    return f'<{_PREFIX}:{name} xmlns:{_PREFIX}="{_NAMESPACE}">{text}</{_PREFIX}:{name}>\n'


def _named(found: Outline | None, *names: tuple[str, str]) -> list[tuple[str, str]]:
    if found is None:
        return []
    told = [(ours, found.text((XMP_MM, theirs))) for theirs, ours in names]
    return [(name, text) for name, text in told if text]


def _history(tool: Tool, origin: Origin) -> str:
    return (
        f'<xmpMM:History xmlns:xmpMM="{XMP_MM}"><rdf:Seq>{_event(tool, origin)}</rdf:Seq>'
        "</xmpMM:History>\n"
    )


def _event(tool: Tool, origin: Origin) -> str:
    parameters = (*tool.parameters, *origin.parameters)
    fields = [
        ("action", "edited"),
        ("softwareAgent", tool.agent),
        ("parameters", "; ".join((tool.done, *(f"{name}={text}" for name, text in parameters)))),
        ("instanceID", _instance(tool, origin)),
        ("changed", "/"),
    ]
    return (
        f'<rdf:li xmlns:rdf="{xmp.RDF}" xmlns:stEvt="{_EVENT}" rdf:parseType="Resource">'
        f"{_simple('stEvt', fields)}</rdf:li>"
    )


def _simple(prefix: str, fields: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<{prefix}:{name}>{escaped(text)}</{prefix}:{name}>" for name, text in fields)


def _instance(tool: Tool, origin: Origin) -> str:
    """Name the derivative by what it is: the same job gives it the same name."""
    facts = repr((tool, origin)).encode("utf-8", "surrogateescape")
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, facts.hex())}"
