"""crest.cluster.outgoing: the oldest messages go, whole, and a GAP says how many."""

import random

import pytest

from crest.cluster.outgoing import Outgoing
from crest.cluster.record import RecordKind, Unpacked, gap_in, pack, pack_gap, unpack

MESSAGE, GAP, START, OPAQUE = RecordKind.MESSAGE, RecordKind.GAP, RecordKind.START, RecordKind.OPAQUE


def message(number: int, size: int = 10, to: tuple[str, ...] | None = None) -> bytes:
    return pack(MESSAGE, bytes(size), sequence=number, to=to)


def gap_of(record: Unpacked) -> tuple[int, int, int, int, int]:
    return gap_in(pack(GAP, record.payload, opcode=record.opcode))


def drain(queue: Outgoing) -> list[Unpacked]:
    found, rest = unpack(queue.take(1 << 30))
    assert rest == b""
    assert queue.waiting == 0
    return found


def test_what_is_put_in_comes_out() -> None:
    queue = Outgoing(None, 1000)
    for number in range(5):
        queue.add(message(number))
    assert queue.waiting == 250
    assert [record.sequence for record in drain(queue)] == [0, 1, 2, 3, 4]
    assert queue.lost == 0


def test_the_oldest_go_and_a_gap_is_in_their_place() -> None:
    queue = Outgoing(None, 150, number=3)
    for number in range(10):
        queue.add(message(number))
    assert (queue.waiting, queue.lost) == (150, 7)
    gap, *rest = drain(queue)
    assert (gap.kind, gap.origin, gap_of(gap)) == (GAP, 3, (1, 7, 0, 0, 0))
    assert [record.sequence for record in rest] == [7, 8, 9]


@pytest.mark.parametrize("away", [False, True])
def test_messages_to_rooms_are_counted_for_themselves(away: bool) -> None:
    """A publisher does not know whether a reader is interested."""
    queue = Outgoing(None, 0, away=away)
    queue.add(message(1))
    queue.add(message(1, to=("a",)))
    queue.add(pack(OPAQUE, b"x"))
    [gap] = drain(queue)
    assert gap_of(gap) == ((2, 1, 0, 1, 1) if away else (1, 1, 1, 0, 1))


def test_gaps_that_follow_each_other_are_one() -> None:
    """Those that others have sent, and those of this queue."""
    queue = Outgoing(None, 60)
    queue.add(pack_gap(cause=2, plain=5, uncertain=6))
    for number in range(10):
        queue.add(message(number))
    gap, last = drain(queue)
    assert gap_of(gap) == (1, 14, 0, 6, 0)
    assert last.sequence == 9
    queue.add(message(10))
    assert [record.kind for record in drain(queue)] == [MESSAGE]


def test_what_links_need_is_never_dropped() -> None:
    queue = Outgoing(None, 100)
    kinds = [START, RecordKind.INTEREST, MESSAGE, RecordKind.DISINTEREST, MESSAGE, MESSAGE]
    for number, kind in enumerate(kinds):
        queue.add(pack(kind, bytes(10), sequence=number))
    found = drain(queue)
    assert [record.kind for record in found if record.kind != GAP] == [
        START,
        RecordKind.INTEREST,
        RecordKind.DISINTEREST,
    ]
    assert sum(gap_of(record)[1] for record in found if record.kind == GAP) == 3


def test_a_record_of_which_a_part_was_sent_is_never_dropped() -> None:
    queue = Outgoing(None, 100)
    queue.add(message(1))
    queue.add(message(2))
    sent = queue.take(51)  # of the second one, one byte
    for number in range(3, 9):
        queue.add(message(number, 20))
    found, rest = unpack(sent + queue.take(1 << 30))
    assert rest == b""
    assert [record.kind for record in found] == [MESSAGE, MESSAGE, GAP]
    assert gap_of(found[2])[1] == 6


def test_a_message_larger_than_the_queue_is_lost_alone() -> None:
    queue = Outgoing(None, 100)
    queue.add(message(1, 500))
    queue.add(message(2))
    gap, record = drain(queue)
    assert (gap_of(gap)[1], record.sequence) == (1, 2)


def test_random_steps_against_a_model() -> None:
    """What is sent, GAPs counted, is what was put in; and the queue holds its limit."""
    for seed in range(30):
        chance = random.Random(seed)
        limit = chance.choice([0, 100, 1000, 5000])
        queue = Outgoing(None, limit)
        stream = bytearray()
        put = 0
        for _ in range(400):
            if chance.random() < 0.6:
                put += 1
                queue.add(message(put, chance.randrange(200)))
                assert queue.waiting <= limit + 240 + 100  # with one begun record, and a GAP
            else:
                stream += queue.take(chance.choice([1, 39, 41, 100, 10_000]))
        stream += queue.take(1 << 30)
        found, rest = unpack(bytes(stream))
        assert rest == b""
        expected = 1
        for record in found:
            if record.kind == GAP:
                expected += gap_of(record)[1]
            else:
                assert record.sequence == expected
                expected += 1
        assert expected == put + 1
