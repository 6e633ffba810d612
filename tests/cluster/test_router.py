"""crest.cluster.router: each record reaches the links that it is for, once and in order, or is counted there."""

import random
from dataclasses import dataclass, field

import pytest

from crest import UserRoom
from crest.cluster.outgoing import Outgoing
from crest.cluster.record import RecordError, RecordKind, gap_in, pack, unpack
from crest.cluster.router import Port, Router

MESSAGE, GAP, OPAQUE, START = RecordKind.MESSAGE, RecordKind.GAP, RecordKind.OPAQUE, RecordKind.START
INTEREST, DISINTEREST = RecordKind.INTEREST, RecordKind.DISINTEREST
LIMIT = 1 << 20


def joined(router: Router, number: int, limit: int = LIMIT) -> Port:
    return router.join(number, Outgoing(None, limit, number))


def taken(port: Port) -> list[bytes]:
    """Payloads of all that waits for a link."""
    found, rest = unpack(port.queue.take(1 << 30))
    assert rest == b""
    return [record.payload for record in found]


def test_a_message_to_all_reaches_all_others() -> None:
    router = Router()
    ports = [joined(router, number) for number in range(3)]
    data = pack(MESSAGE, b"1") + pack(MESSAGE, b"2") + pack(OPAQUE, b"3")
    assert router.feed(ports[1], data) == len(data)
    assert [taken(port) for port in ports] == [[b"1", b"2", b"3"], [], [b"1", b"2", b"3"]]


def test_a_message_to_rooms_reaches_the_interested_once() -> None:
    router = Router()
    a, b, c, d = (joined(router, number) for number in range(4))
    router.feed(a, pack(INTEREST, to=("x", "y")))
    router.feed(b, pack(INTEREST, to=("y", "z")))
    router.feed(c, pack(INTEREST, to=(UserRoom("x"),)))
    router.feed(c, pack(INTEREST, to=("x",), server=1))
    router.feed(d, pack(MESSAGE, b"1", to=("x", "y")) + pack(MESSAGE, b"2", to=("z",)) + pack(MESSAGE, b"3", to=("w",)))
    router.feed(a, pack(MESSAGE, b"4", to=("x", "y")))
    router.feed(d, pack(MESSAGE, b"5", to=(UserRoom("x"),)) + pack(MESSAGE, b"6", to=("x",), server=1))
    assert [taken(port) for port in (a, b, c, d)] == [[b"1"], [b"1", b"2", b"4"], [b"5", b"6"], []]
    router.feed(b, pack(DISINTEREST, to=("y", "never")))
    router.feed(d, pack(MESSAGE, b"7", to=("y",)))
    assert [taken(port) for port in (a, b)] == [[b"7"], []]


def test_interests_go_with_the_link() -> None:
    router = Router()
    a, b = joined(router, 1), joined(router, 2)
    address = pack(INTEREST, to=("x",))[40:]
    router.feed(a, pack(INTEREST, to=("x",)) * 2)
    router.feed(b, pack(INTEREST, to=("x",)))
    assert router.interested(0, address) == [1, 2]
    router.part(a)
    assert router.interested(0, address) == [2]
    router.part(b)
    assert router.interested(0, address) == []
    assert router.ports == []


def test_what_workers_tell_a_name_reaches_who_listens_to_it() -> None:
    router = Router()
    a, b, c = (joined(router, number) for number in range(3))
    router.feed(b, pack(INTEREST, to=("name",)))
    router.feed(a, pack(OPAQUE, b"1", to=("name",)) + pack(OPAQUE, b"2", to=("other",)) + pack(OPAQUE, b"3"))
    assert [taken(port) for port in (a, b, c)] == [[], [b"1", b"3"], [b"3"]]


def test_others_are_told_of_a_link_that_is_gone() -> None:
    """Behind what came from there, and only if they have heard of it."""
    router = Router()
    a, b, silent = (joined(router, number) for number in range(3))
    router.feed(a, pack(START, bytes(24), origin=0) + pack(MESSAGE, b"1"))
    b.queue.take(1 << 30)
    router.feed(a, pack(MESSAGE, b"last"))
    router.part(a)
    router.part(silent)
    records, _ = unpack(b.queue.take(1 << 30))
    assert [(record.kind, record.origin, record.payload) for record in records] == [
        (MESSAGE, 0, b"last"),
        (RecordKind.LEFT, 0, b""),
    ]


def test_kinds_that_are_unknown_are_counted() -> None:
    router = Router()
    a, b = joined(router, 1), joined(router, 2)
    data = pack(200, b"?") + pack(RecordKind.VOID) + pack(MESSAGE, b"1")
    assert router.feed(a, data) == len(data)
    assert (router.unknown, taken(b)) == (1, [b"1"])


def test_what_comes_before_an_error_is_routed() -> None:
    router = Router()
    a, b = joined(router, 1), joined(router, 2)
    with pytest.raises(RecordError):
        router.feed(a, pack(MESSAGE, b"1") + bytes(100))
    assert taken(b) == [b"1"]


def test_what_is_not_whole_is_left() -> None:
    router = Router()
    a, b = joined(router, 1), joined(router, 2)
    whole = pack(MESSAGE, b"1")
    assert router.feed(a, whole + whole[:-1]) == len(whole)
    assert taken(b) == [b"1"]


def test_a_link_that_joins_is_told_how_far_others_are() -> None:
    router = Router()
    a, silent = joined(router, 1), joined(router, 2)
    router.feed(a, pack(START, (7).to_bytes(8, "little") + bytes(16), origin=1))
    router.feed(a, pack(MESSAGE, sequence=5) + pack(MESSAGE, sequence=9, to=("x",)))
    b = joined(router, 3)
    [start], _ = unpack(b.queue.take(1 << 30))
    numbers = [int.from_bytes(start.payload[i : i + 8], "little") for i in (0, 8, 16)]
    assert (start.kind, start.origin, numbers) == (START, 1, [7, 5, 9])
    assert len(taken(silent)) == 2


def test_a_slow_link_loses_alone() -> None:
    router = Router()
    a, slow, quick = joined(router, 1), joined(router, 2, 4000), joined(router, 3)
    for number in range(1000):
        router.feed(a, pack(MESSAGE, bytes(60), sequence=number))
        assert len(taken(quick)) == 1
    assert slow.queue.waiting <= 4000
    gap, *rest = unpack(slow.queue.take(1 << 30))[0]
    assert gap_in(pack(GAP, gap.payload, opcode=gap.opcode)) == (1, 960, 0, 0, 0)
    assert [record.sequence for record in rest] == list(range(960, 1000))


@dataclass
class Model:
    """A link as a plain model has it."""

    port: Port
    rooms: set[str] = field(default_factory=set)
    waiting: list[tuple[int, int]] = field(default_factory=list)
    """(origin, sequence) that are to come, in order."""
    unread: bytes = b""

    def read(self, size: int) -> None:
        """Read some bytes: what has come is what the model has next, or is counted as missing."""
        found, self.unread = unpack(self.unread + self.port.queue.take(size))
        for record in found:
            if record.kind == GAP:
                counts = gap_in(pack(GAP, record.payload, opcode=record.opcode))
                del self.waiting[: sum(counts[1:])]
            else:
                assert self.waiting.pop(0) == (record.origin, record.sequence)


def test_random_steps_against_a_model() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        router = Router()
        links: list[Model] = []
        numbers = iter(range(1, 10_000))
        sequence = 0
        for _ in range(600):
            step = chance.random()
            if step < 0.03 or len(links) < 2:
                number = next(numbers)
                links.append(Model(joined(router, number, chance.choice([500, 5000, LIMIT]))))
                continue
            link = chance.choice(links)
            room = chance.choice("abcde")
            if step < 0.05:
                router.part(link.port)
                links.remove(link)
            elif step < 0.2:
                router.feed(link.port, pack(INTEREST, to=(room,)))
                link.rooms.add(room)
            elif step < 0.3:
                router.feed(link.port, pack(DISINTEREST, to=(room,)))
                link.rooms.discard(room)
            elif step < 0.6:
                chance.choice(links).read(chance.choice([1, 45, 1000, 1 << 20]))
            else:
                data = b""
                for _ in range(chance.choice([1, 1, 5, 30])):
                    sequence += 1
                    to = tuple(chance.sample("abcde", chance.randint(1, 3))) if chance.random() < 0.5 else None
                    data += pack(
                        MESSAGE, bytes(chance.randrange(100)), origin=link.port.number, sequence=sequence, to=to
                    )
                    for other in links:
                        if other is not link and (to is None or other.rooms & set(to)):
                            other.waiting.append((link.port.number, sequence))
                assert router.feed(link.port, data) == len(data)
        for link in links:
            link.read(1 << 30)
            assert (link.waiting, link.unread) == ([], b"")
