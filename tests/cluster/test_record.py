"""crest.cluster.record: what is written is read, and anything else is an error or too short."""

import random
import struct
from typing import Any

import pytest

from crest import UserRoom
from crest.cluster.record import RecordError, RecordKind, gap_in, pack, pack_gap, server_id, unpack

HEADER = 40


def random_record(chance: random.Random) -> dict[str, Any]:
    """Arguments of `pack`."""
    names = ["a", "lobby", "h\xe9", "\u6771\u4eac", "\U0001f600" * 5, "x" * 300]
    to: tuple[Any, ...] | None = None
    if chance.random() < 0.5:
        to = tuple(chance.choice([str, UserRoom])(chance.choice(names)) for _ in range(chance.randint(1, 5)))
    keys = [None, "", "k\xe9", b"", b"\0\xff", 0, -1, 255, -(1 << 70), 1 << 63]
    return {
        "kind": RecordKind.MESSAGE,
        "payload": chance.randbytes(chance.choice([0, 1, 64, 5000])),
        "opcode": chance.choice([1, 2]),
        "origin": chance.getrandbits(32),
        "server": chance.getrandbits(32),
        "sequence": chance.getrandbits(64),
        "to": to,
        "key": chance.choice(keys),
        "compress": chance.random() < 0.5,
    }


def test_what_is_packed_is_unpacked() -> None:
    chance = random.Random(7)
    records = [random_record(chance) for _ in range(300)]
    found, rest = unpack(b"".join(pack(**record) for record in records))
    assert rest == b""
    assert [each._asdict() for each in found] == records
    assert [type(each.key) for each in found] == [type(record["key"]) for record in records]


def test_a_bool_travels_as_the_number_that_it_is() -> None:
    [record], _ = unpack(pack(1, key=True))
    assert record.key == 1
    assert type(record.key) is int


def test_what_is_not_whole_is_left() -> None:
    """At each size, and behind a whole record."""
    whole = pack(1, b"payload", to=("a",), key="k")
    for size in range(len(whole)):
        assert unpack(whole[:size]) == ([], whole[:size])
        found, rest = unpack(whole + whole[:size])
        assert (len(found), rest) == (1, whole[:size])


def test_a_version_that_is_unknown() -> None:
    record = bytearray(pack(1, b"x"))
    record[4] = 2
    with pytest.raises(RecordError, match="version 2, and this process knows 1 only"):
        unpack(bytes(record))


@pytest.mark.parametrize("size", [0, HEADER - 1, (1 << 30) + 1, (1 << 32) - 1])
def test_a_size_that_cannot_be(size: int) -> None:
    with pytest.raises(RecordError, match=f"can not have {size} bytes"):
        unpack(struct.pack("I", size) + pack(1, b"x")[4:])


@pytest.mark.parametrize("place", [24, 28, 32])
def test_parts_that_are_larger_than_the_record(place: int) -> None:
    record = bytearray(pack(1, b"x"))
    struct.pack_into("I", record, place, (1 << 32) - 1)
    with pytest.raises(RecordError, match="no room for its parts"):
        unpack(bytes(record))


@pytest.mark.parametrize("word", [0, 1, 2 << 1 | 1, (1 << 32) - 1])
def test_addresses_that_are_empty_or_too_long(word: int) -> None:
    record = bytearray(pack(1, b"payload", to=("a",)))
    struct.pack_into("I", record, HEADER, word)
    with pytest.raises(RecordError, match="an address in a record"):
        unpack(bytes(record))


def test_names_that_are_no_utf8() -> None:
    record = pack(1, to=("abc",)).replace(b"abc", b"a\xffc")
    with pytest.raises(RecordError, match="no UTF-8"):
        unpack(record)
    with pytest.raises(RecordError, match="no UTF-8"):
        unpack(pack(1, key="abc").replace(b"abc", b"a\xffc"))


def test_a_key_of_an_unknown_kind() -> None:
    record = bytearray(pack(1, key="k"))
    record[36] = 9
    with pytest.raises(RecordError, match="unknown kind 9"):
        unpack(bytes(record))


def test_garbage_is_an_error_or_too_short() -> None:
    """Records with some bytes changed, and bytes that never were a record: nothing but a RecordError comes of it."""
    chance = random.Random(11)
    errors = 0
    for _ in range(5000):
        data = bytearray(pack(**random_record(chance)))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(min(len(data), 60))] = chance.randrange(256)
        if chance.random() < 0.2:
            data = bytearray(chance.randbytes(chance.randrange(200)))
        try:
            found, rest = unpack(bytes(data))
        except RecordError:
            errors += 1
        else:
            assert len(rest) <= len(data)
            assert len(found) <= len(data) // HEADER
    assert 1000 < errors < 5000


def test_a_gap_says_what_is_missing() -> None:
    assert gap_in(pack_gap(cause=2, plain=1, addressed=2, uncertain=3, others=4)) == (2, 1, 2, 3, 4)
    with pytest.raises(RecordError, match="no whole GAP"):
        gap_in(pack(1))
    with pytest.raises(RecordError, match="at least 48 are needed"):
        gap_in(pack(RecordKind.GAP, bytes(47)))


def test_what_is_too_large() -> None:
    with pytest.raises(OverflowError, match="too large for a record"):
        pack(1, bytes((1 << 30) + 1))


def test_servers_are_told_apart_by_path() -> None:
    assert server_id("/ws") == server_id("/ws") != server_id("/chat")
