"""crest.wire.proxy: headers of the PROXY protocol, right and wrong, cut anywhere.

The specification's examples and limits are written down here as bytes; `reference_source` says once more, in another
way, what a header of version 2 means, for random ones.
"""

import ipaddress
import random
import struct

import pytest
from support.deliveries import cuts

from crest.wire.proxy import LONGEST, MalformedHeader, ProxyHeader, crc32c

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
INET = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 56324, 443)
INET6 = ipaddress.ip_address("2001:db8::7").packed + ipaddress.ip_address("::1").packed + struct.pack("!HH", 1, 2)
UNIX = b"/run/a.sock".ljust(108, b"\0") * 2
PAYLOAD = b"GET / HTTP/1.1\r\n\r\n"


def binary(kind: int, body: bytes, command: int = 0x21, length: int | None = None) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, kind, len(body) if length is None else length) + body


def value(kind: int, content: bytes, length: int | None = None) -> bytes:
    """A value behind the addresses."""
    return struct.pack("!BH", kind, len(content) if length is None else length) + content


def summed(kind: int, addresses: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A header with a checksum among its values."""
    made = binary(kind, addresses + before + value(3, bytes(4)) + after)
    at = len(made) - len(after) - 4
    return made[:at] + slow_crc32c(made).to_bytes(4, "big") + made[at + 4 :]


def slow_crc32c(data: bytes) -> int:
    """Bit by bit, the most significant one first: the polynomial as RFC 3720 has it, of reflected bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= int(f"{byte:08b}"[::-1], 2) << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x11EDC6F41 if crc >> 31 else 0)) & 0xFFFFFFFF
    return int(f"{crc ^ 0xFFFFFFFF:032b}"[::-1], 2)


def read(chunks: list[bytes]) -> tuple[ProxyHeader, bytes]:
    """Feed chunks; the header, and what came behind it."""
    header, rest = ProxyHeader(), b""
    for chunk in chunks:
        size = 0 if header.complete or not chunk else header.feed(chunk)
        assert header.complete or size == len(chunk)
        rest += chunk[size:]
    return header, rest


LINES = [
    (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", ("192.168.0.1", 56324)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0)),
    (b"PROXY TCP6 2001:DB8::1 ::1 1 65535\r\n", ("2001:db8::1", 1)),
    (
        b"PROXY TCP6 " + b":".join([b"ffff"] * 8) + b" " + b":".join([b"ffff"] * 8) + b" 65535 65535\r\n",
        ("ffff:" * 7 + "ffff", 65535),
    ),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.8 80 81\r\n", ("192.0.2.7", 80)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN \r\n", None),
    (b"PROXY UNKNOWN " + b":".join([b"ffff"] * 8) + b" " + b":".join([b"ffff"] * 8) + b" 65535 65535\r\n", None),
    (b"PROXY UNKNOWN \xff\0 anything\r\n", None),
]
BINARIES = [
    (binary(0x11, INET), ("192.0.2.7", 56324)),
    (binary(0x21, INET6), ("2001:db8::7", 1)),
    (binary(0x21, bytes(10) + b"\xff\xff" + INET[:4] + INET6[16:]), ("192.0.2.7", 1)),
    (binary(0x31, UNIX), None),
    (binary(0x12, INET), None),
    (binary(0x22, INET6), None),
    (binary(0x32, UNIX), None),
    (binary(0x00, b""), None),
    (binary(0x00, b"anything"), None),
    (binary(0x10, b""), None),
    (binary(0x01, INET), None),
    (binary(0x00, b"", 0x20), None),
    (binary(0x11, INET, 0x20), None),
    (binary(0xFF, b"\x03\xff", 0x20), None),
    (binary(0x11, INET + value(1, b"http/1.1") + value(4, b"") + value(0xEE, bytes(300))), ("192.0.2.7", 56324)),
    (binary(0x11, INET + value(0x20, bytes(LONGEST - 16 - 12 - 3))), ("192.0.2.7", 56324)),
    (binary(0x31, UNIX + value(2, b"example.com")), None),
    (summed(0x11, INET), ("192.0.2.7", 56324)),
    (summed(0x21, INET6, value(5, b"unique"), value(4, b"\0\0\0")), ("2001:db8::7", 1)),
    (summed(0x31, UNIX), None),
]


@pytest.mark.parametrize(("data", "source"), LINES + [each for each in BINARIES if len(each[0]) < 400])
def test_cut_anywhere(data: bytes, source: tuple[str, int] | None) -> None:
    for chunks in cuts(data + PAYLOAD):
        header, rest = read(chunks)
        assert (header.complete, header.source, rest) == (True, source, PAYLOAD)


@pytest.mark.parametrize(("data", "source"), LINES + BINARIES)
def test_it_is_complete_with_its_last_byte(data: bytes, source: tuple[str, int] | None) -> None:
    header = ProxyHeader()
    assert not header.begun
    assert header.feed(data[:-1]) == len(data) - 1
    assert (header.begun, header.complete, header.source) == (True, False, None)
    assert header.feed(data[-1:] + data) == 1
    assert (header.complete, header.source) == (True, source)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "neither"),
        (b"\x16\x03\x01\x02\x00", "neither"),
        (b"\r\n\r\n\r\n", "neither"),
        (b"proxy tcp4", "neither"),
        (b"PROXY\r\n", "neither"),
        (b"PROXX", "neither"),
        (SIGNATURE[:-1] + b"\r", "neither"),
        (b"PROXY " + b"x" * 101, "more than 107 bytes"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "more than 107 bytes"),
        (b"PROXY UNKNOWN\n", "version 1"),
        (b"PROXY UNKNOWN\r\r\n", "version 1"),
        (b"PROXY UNKNOWN a\rb\r\n", "version 1"),
        (b"PROXY UNKNOWNS\r\n", "version 1"),
        (b"PROXY \r\n", "version 1"),
        (b"PROXY TCP4\r\n", "version 1"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "version 1"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "version 1"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "version 1"),
        (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "version 1"),
        (b"PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n", "version 1"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "version 1"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", "version 1"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 123456\r\n", "version 1"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "version 1"),
        (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "version 1"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 \u0662\r\n".encode(), "version 1"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "version 1"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "a port over 65535"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 1\r\n", "a port over 65535"),
        (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", "not an address of TCP4"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n", "not an address of TCP4"),
        (b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "not an address of TCP4"),
        (b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", "not an address of TCP6"),
        (b"PROXY TCP6 ::1 1::2::3 1 2\r\n", "not an address of TCP6"),
        (binary(0x11, INET, 0x11), "version 1 in the form of version 2"),
        (binary(0x11, INET, 0x31), "version 3 in the form"),
        (binary(0x11, INET, 0x22), "command 2"),
        (binary(0x41, INET), "family 4 and transport 1"),
        (binary(0x13, INET), "family 1 and transport 3"),
        (binary(0x04, b""), "family 0 and transport 4"),
        (binary(0x11, INET[:-1]), "shorter than its addresses"),
        (binary(0x12, b""), "shorter than its addresses"),
        (binary(0x21, INET6[:-1]), "shorter than its addresses"),
        (binary(0x31, UNIX[:-1]), "shorter than its addresses"),
        (binary(0x11, INET + b"\x04"), "a value that is longer than the header"),
        (binary(0x11, INET + b"\x04\0"), "a value that is longer than the header"),
        (binary(0x11, INET + value(4, b"ab", 3)), "a value that is longer than the header"),
        (binary(0x31, UNIX + value(4, b"", 1)), "a value that is longer than the header"),
        (binary(0x11, INET + value(3, b"")), "a checksum of 0 bytes"),
        (binary(0x11, INET + value(3, bytes(5))), "a checksum of 5 bytes"),
        (binary(0x11, INET + value(3, bytes(4))), "the checksum does not match"),
        (binary(0x11, b"", length=LONGEST - 15), f"{LONGEST + 1} bytes, more than {LONGEST}"),
        (binary(0x11, b"", length=0xFFFF), "65551 bytes"),
    ],
)
def test_malformed(data: bytes, text: str) -> None:
    for chunks in ([data], [data[at : at + 1] for at in range(len(data))], [data + PAYLOAD]):
        with pytest.raises(MalformedHeader, match=text):
            read(chunks)


@pytest.mark.parametrize(("data", "source"), [each for each in BINARIES if b"\x03\x00\x04" in each[0]])
def test_a_checksum_finds_each_bit(data: bytes, source: object) -> None:
    for bit in range(8 * HEAD_END, 8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        header = ProxyHeader()
        try:
            header.feed(bytes(changed))
        except MalformedHeader:
            continue
        # The type of the checksum, or a length before it, is what has changed: then there is none.
        assert header.complete and bytes(changed[-7:-4]) != b"\x03\x00\x04"


HEAD_END = 16


def test_the_checksum() -> None:
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 appendix B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    for size in range(40):
        data = random.Random(size).randbytes(size)
        assert crc32c(data) == slow_crc32c(data)


# ---- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "tls"),
    [
        (binary(0x11, INET), False),
        (binary(0x11, INET + value(0x20, b"\x01\0\0\0\0")), True),
        (binary(0x11, INET + value(0x20, b"\x07\0\0\0\0" + value(0x21, b"TLSv1.3"))), True),
        (binary(0x21, INET6 + value(4, b"\x20\0\x01\x01") + value(0x20, b"\x01\0\0\0\0")), True),
        (binary(0x31, UNIX + value(0x20, b"\x01\0\0\0\0")), True),
        (binary(0x11, INET + value(0x20, b"\x06\0\0\0\0")), False),
        (binary(0x11, INET + value(0x20, b"")), False),
        (binary(0x11, INET + value(0x21, b"\x01\0\0\0\0")), False),
        (binary(0x11, INET + value(0x20, b"\x01\0\0\0\0"), 0x20), False),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", False),
    ],
)
def test_whether_the_client_speaks_tls(data: bytes, tls: bool) -> None:
    for chunks in ([data + PAYLOAD], [data[at : at + 1] for at in range(len(data))]):
        header, _ = read(chunks)
        assert header.complete and header.tls is tls


# ---- Mutations -------------------------------------------------------------------------------------------------------


def reference_source(data: bytes) -> tuple[str, int] | str | None:
    """What a whole header of version 2, without a checksum, means; or "malformed"."""
    command, kind, length = struct.unpack("!BBH", data[12:16])
    body = data[16 : 16 + length]
    if command == 0x20:
        return None
    if command != 0x21 or kind >> 4 > 3 or kind & 15 > 2:
        return "malformed"
    if not kind >> 4 or not kind & 15:
        return None
    form = {1: "!4s4sHH", 2: "!16s16sHH", 3: "!108s108s"}[kind >> 4]
    if len(body) < struct.calcsize(form):
        return "malformed"
    fields = struct.unpack_from(form, body)
    values = body[struct.calcsize(form) :]
    while values:
        if len(values) < 3 or len(values) - 3 < int.from_bytes(values[1:3], "big"):
            return "malformed"
        values = values[3 + int.from_bytes(values[1:3], "big") :]
    if kind not in (0x11, 0x21):
        return None
    address = ipaddress.ip_address(fields[0])
    return str(getattr(address, "ipv4_mapped", None) or address), fields[2]


def test_mutated_headers_of_version_2() -> None:
    rng = random.Random(2)
    seeds = [data for data, _ in BINARIES if len(data) < 400 and b"\x03\x00\x04" not in data]
    sources = set()
    for _ in range(20_000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(12, len(data))] = rng.choice([0, 1, 2, 4, 0x10, 0x11, 0x20, 0x21, 0x31, 0xFF])
        length = int.from_bytes(data[14:16], "big")
        if rng.random() < 0.3:
            length = rng.choice([len(data) - 16, max(0, len(data) - 17), rng.randrange(400)])
            data[14:16] = length.to_bytes(2, "big")
        if length > 500:
            continue
        data += bytes(max(0, 16 + length - len(data)))
        if 3 in data[16:]:
            continue  # might be a checksum
        expected = reference_source(bytes(data))
        header = ProxyHeader()
        cut = rng.randrange(1, len(data) + 1)
        try:
            assert header.feed(bytes(data[:cut])) == min(cut, 16 + length)
            if not header.complete:
                assert header.feed(bytes(data[cut:])) == 16 + length - cut
            assert header.complete
            found: object = header.source
        except MalformedHeader:
            found = "malformed"
        assert found == expected, data.hex()
        sources.add(type(found))
    assert sources == {tuple, str, type(None)}


def test_mutated_lines() -> None:
    """Nothing but MalformedHeader, and an address is one."""
    rng = random.Random(1)
    told = 0
    for _ in range(20_000):
        data = bytearray(rng.choice(LINES)[0])
        for _ in range(rng.randrange(4)):
            at = rng.randrange(5, len(data))
            data[at : at + rng.randrange(2)] = rng.choice(
                [b"", b" ", b"0", b"9", b".", b":", b"\r", b"\n", b"\xff", b"f"]
            )
        header = ProxyHeader()
        try:
            size = header.feed(bytes(data))
        except MalformedHeader:
            continue
        assert header.complete == (b"\n" in data)
        if header.source is not None:
            told += 1
            kind, source, target, *ports = data[:size].decode().split(" ")[1:]
            assert ipaddress.ip_address(source).version == ipaddress.ip_address(target).version == int(kind[3:])
            assert [str(int(port)) for port in ports] == [port.rstrip("\r\n") for port in ports]
            assert header.source[1] == int(ports[0]) <= 65535
    assert told > 1000
