"""The PROXY protocol's header, by which a proxy says where a connection comes from: versions 1 and 2 of HAProxy's
specification (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt). Sans-I/O.

It stands before anything else on the connection, once. Whether it is expected, and from which peers, is for the caller
to know: that must never be guessed from the bytes that come.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

Source = tuple[str, int]  # address and port

LONGEST: Final = 4096
"""Bytes that a header may have. Addresses and the values that are in use come to a few hundred; version 2 could have
65,551."""

# Version 1 (section 2.1).
PREFIX: Final = b"PROXY "
LONGEST_LINE: Final = 107
_PORTS: Final = rb"(0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r]*)?"
    rb"|(TCP4) ([0-9.]+) ([0-9.]+) %b"
    rb"|(TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) %b)\r\n" % (_PORTS, _PORTS)
)

# Version 2 (section 2.2).
SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
HEAD: Final = 16
VERSION: Final = 2
LOCAL, PROXY = 0, 1
UNSPEC, INET, INET6, UNIX = 0, 1, 2, 3
STREAM, DGRAM = 1, 2
ADDRESSES: Final = {INET: 12, INET6: 36, UNIX: 216}
"""Bytes of both addresses and ports of each family."""
TYPE_CRC32C: Final = 3
TYPE_SSL: Final = 0x20
CLIENT_SSL: Final = 1
"""In the first byte of that value: the client speaks TLS with the proxy (section 2.2.6)."""


class MalformedHeader(ValueError):
    """What has come is no PROXY protocol header. The text says why."""


class ProxyHeader:
    """Reads the header of one connection.

    Attributes:
        complete: True once the header has come as a whole.
        source: Address and port of the client. None until the header is complete; and if the proxy names none: the
            connection is its own (a health check), or the client has no IP address.
        tls: True if the client speaks TLS with the proxy, which version 2 may say.
    """

    __slots__ = ("_data", "_size", "complete", "source", "tls")

    def __init__(self) -> None:
        self._data = b""
        self._size: int | None = None  # of the whole header, as soon as that is known
        self.complete = False
        self.source: Source | None = None
        self.tls = False

    @property
    def begun(self) -> bool:
        """True if any of it has come."""
        return bool(self._data)

    def feed(self, data: bytes) -> int:
        """Read the bytes that have come, 1 or more. Returns how many belong to the header: all, until it is complete.

        Raises:
            MalformedHeader: They are no header, nor the beginning of one.
        """
        before = len(self._data)
        self._data += data[: LONGEST - before]
        if self._size is None:
            self._size = self._find_size()
        if self._size is None or len(self._data) < self._size:
            return len(data)
        self._data = self._data[: self._size]
        if self._data[:1] == SIGNATURE[:1]:
            self.source, self.tls = _parse_binary(self._data)
        else:
            self.source = _parse_line(self._data)
        self.complete = True
        return self._size - before

    def _find_size(self) -> int | None:
        """Find the bytes of the whole header; None if it takes more to know."""
        data = self._data
        if data[: len(PREFIX)] == PREFIX[: len(data)]:
            end = data.find(b"\n", 0, LONGEST_LINE)
            if end < 0 and len(data) >= LONGEST_LINE:
                raise MalformedHeader(f"a line of more than {LONGEST_LINE} bytes")
            return end + 1 if end >= 0 else None
        if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
            raise MalformedHeader("neither version 1 nor version 2")
        if len(data) < HEAD:
            return None
        size = HEAD + int.from_bytes(data[14:HEAD], "big")
        if size > LONGEST:
            raise MalformedHeader(f"{size} bytes, more than {LONGEST}")
        return size


# ---- Version 1 -------------------------------------------------------------------------------------------------------


def _parse_line(line: bytes) -> Source | None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise MalformedHeader("a line that version 1 does not know")
    fields = [each.decode() for each in match.groups() if each is not None]
    if not fields:
        return None  # UNKNOWN
    family, source, target, source_port, target_port = fields
    kind = IPv4Address if family == "TCP4" else IPv6Address
    try:
        address, _ = kind(source), kind(target)
    except AddressValueError:
        raise MalformedHeader(f"not an address of {family}") from None
    if max(int(source_port), int(target_port)) > 0xFFFF:
        raise MalformedHeader("a port over 65535")
    return _plain(address), int(source_port)


# ---- Version 2 -------------------------------------------------------------------------------------------------------


def _parse_binary(header: bytes) -> tuple[Source | None, bool]:
    """Find the source, and True if it speaks TLS."""
    version, command = divmod(header[12], 16)
    family, transport = divmod(header[13], 16)
    if version != VERSION:
        raise MalformedHeader(f"version {version} in the form of version 2")
    if command not in (LOCAL, PROXY):
        raise MalformedHeader(f"command {command}")
    if command == LOCAL:
        return None, False  # whatever else it says
    if family > UNIX or transport > DGRAM:
        raise MalformedHeader(f"family {family} and transport {transport}")
    if UNSPEC in (family, transport):
        return None, False
    tls = _check_values(header, HEAD + ADDRESSES[family])
    if transport != STREAM or family == UNIX:
        return None, tls
    body = header[HEAD:]
    if family == INET:
        return (str(IPv4Address(body[:4])), int.from_bytes(body[8:10], "big")), tls
    return (_plain(IPv6Address(body[:16])), int.from_bytes(body[32:34], "big")), tls


def _check_values(header: bytes, at: int) -> bool:
    """Check the values that follow the addresses: each is a type, the length of a value, and the value. Returns True if
    one says that the client speaks TLS."""
    tls = False
    if len(header) < at:
        raise MalformedHeader("shorter than its addresses")
    while at < len(header):
        value = at + 3
        end = value + int.from_bytes(header[at + 1 : value], "big")
        if max(value, end) > len(header):
            raise MalformedHeader("a value that is longer than the header")
        if header[at] == TYPE_CRC32C:
            _check_sum(header, value, end)
        elif header[at] == TYPE_SSL and end > value:
            tls = bool(header[value] & CLIENT_SSL)
        at = end
    return tls


def _check_sum(header: bytes, value: int, end: int) -> None:
    """Check the checksum of the header, in which the checksum itself counts as zeros (section 2.2.3)."""
    if end - value != 4:
        raise MalformedHeader(f"a checksum of {end - value} bytes")
    if crc32c(header[:value] + bytes(4) + header[end:]) != int.from_bytes(header[value:end], "big"):
        raise MalformedHeader("the checksum does not match")


def crc32c(data: bytes) -> int:
    """Compute Castagnoli's CRC (RFC 3720 appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_OF_BYTE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC_OF_BYTE = [_crc_of(byte) for byte in range(256)]


def _plain(address: IPv4Address | IPv6Address) -> str:
    """Write the address as text, an IPv4 address also where it is mapped into IPv6."""
    return str(getattr(address, "ipv4_mapped", None) or address)
