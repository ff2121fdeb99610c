"""Leaf texts of an XMP packet (ISO 16684-1), read so that nothing in it can expand.

Entities are the only way a small XML text becomes a big one; they need a document type declaration, which XMP never
has, so a packet with one is refused before the parser sees it.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from img2prompt.errors import MetadataError

MAX_XMP_BYTES = 2 * 2**20
MAX_XMP_DEPTH = 100
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DECLARATION = re.compile(r"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)


def read_xmp(packet: bytes) -> dict[str, str]:
    """Property name without its namespace -> text, e.g. {"description": "...", "CreatorTool": "..."}.

    The first value of a property wins. A packet that is no XML gives {}.

    Raises:
        MetadataError: over 2 MiB, nested deeper than 100, or with a document type declaration.
    """
    if len(packet) > MAX_XMP_BYTES:
        raise MetadataError(
            f"its XMP has {len(packet)} bytes, more than {MAX_XMP_BYTES}; the file is damaged or hostile"
        )
    text = packet.decode("utf-8", errors="replace").strip("\0\ufeff \r\n")
    if _DECLARATION.search(text):
        raise MetadataError("its XMP declares a document type or entity, which XMP never does; the file is hostile")
    leaves = _Leaves()
    parser = ET.XMLParser(target=leaves)
    try:
        parser.feed(text)
        parser.close()
    except ET.ParseError:
        pass  # what was read before the damage still counts
    return leaves.texts


class _Leaves:
    """Collects texts while the parser runs; no tree is built."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._path: list[str] = []
        self._data: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._path) >= MAX_XMP_DEPTH:
            raise MetadataError(f"its XMP is nested deeper than {MAX_XMP_DEPTH}; the file is damaged or hostile")
        self._path.append(tag)
        self._data.clear()
        if tag.startswith(_RDF):  # properties may stand as attributes of rdf:Description
            for name, value in attributes.items():
                if not name.startswith((_RDF, "{http://www.w3.org/XML/")):
                    self._keep(name, value)

    def data(self, data: str) -> None:
        self._data.append(data)

    def end(self, tag: str) -> None:
        text = "".join(self._data)
        self._data.clear()
        owner = next((name for name in reversed(self._path) if not name.startswith(_RDF)), None)
        self._path.pop()
        if owner is not None and text.strip():
            self._keep(owner, text)

    def close(self) -> None:
        """The parser calls it at the end."""

    def _keep(self, name: str, text: str) -> None:
        self.texts.setdefault(name.rpartition("}")[2], text)
