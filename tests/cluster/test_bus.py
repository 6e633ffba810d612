"""crest.cluster.bus: what is broadcast in one worker reaches the clients of another; interests and losses are told."""

from typing import Any

import pytest
from support.bus import worker
from support.client import BINARY, TEXT
from support.link import Link, parse
from support.said import SERVER, come, sent, start

from crest import UserRoom
from crest.cluster.record import RecordKind, Unpacked, gap_in, pack, pack_gap

MESSAGE, GAP, START = RecordKind.MESSAGE, RecordKind.GAP, RecordKind.START
INTEREST, DISINTEREST = RecordKind.INTEREST, RecordKind.DISINTEREST


def message(text: str, sequence: int, **options: Any) -> bytes:
    return pack(MESSAGE, text.encode(), opcode=TEXT, origin=2, server=SERVER, sequence=sequence, **options)


def test_broadcasts_are_relayed_with_all_that_they_say() -> None:
    with worker(number=9) as made:
        peer = made.connect_peer()
        made.stage.hub.broadcast("h\xe9")
        rooms = ["a", UserRoom("b")]
        made.stage.hub.broadcast_binary(b"\0", key=-5, compress=False, to=rooms, exclude=made.link.connection)
        made.stage.hub.broadcast("here", local=True)
        made.stage.hub.broadcast("to no room", to=[])
        made.stage.hub.broadcast("k", key="\xe9")
        assert sent(made, peer) == [
            Unpacked(MESSAGE, TEXT, 9, SERVER, 1, None, None, b"h\xc3\xa9", True),  # type: ignore[comparison-overlap]
            Unpacked(MESSAGE, BINARY, 9, SERVER, 1, ("a", UserRoom("b")), -5, b"\0", False),
            Unpacked(MESSAGE, TEXT, 9, SERVER, 2, None, "\xe9", b"k", True),
        ]


def test_what_comes_is_published_and_not_relayed() -> None:
    with worker() as made:
        peer = made.connect_peer()
        made.link.connection.join("a")
        made.link.connection._be_user("ann")
        peer.sock.send(
            message("1", 1)
            + message("2", 1, to=("a", "b"), key="k")
            + message("3", 2, to=("b",))
            + message("4", 3, to=(UserRoom("ann"),))
            + pack(MESSAGE, b"5", opcode=BINARY, origin=2, server=SERVER, sequence=2)
            + pack(MESSAGE, b"6", opcode=TEXT, origin=2, server=SERVER + 1, sequence=3)
        )
        made.stage.end_turn(3)
        made.link.read_all()
        assert [(each.opcode, each.payload) for each in made.link.frames()] == [
            (TEXT, b"1"),
            (TEXT, b"2"),
            (TEXT, b"4"),
            (BINARY, b"5"),
        ]
        assert made.bus.unknown == 1
        assert sent(made, peer) == []
        assert made.bus.published == 0


@pytest.mark.parametrize("policy", ["close", "latest"])
def test_keys_mean_what_they_mean_here(policy: str) -> None:
    """For a client that lags, the newest takes the place of an older one, wherever it was broadcast."""
    with worker(on_backlog=policy, max_backlog=1 << 20) as made:
        peer = made.connect_peer()
        slow = made.stage.link(send_buffer=4608, room=0)
        slow.fill()
        for number in range(1, 4):
            peer.sock.send(message(f"x{number}", number, key=4))
            made.stage.end_turn(2)
        texts = [each for each in slow_texts(slow) if each.startswith("x")]
        assert texts == (["x1", "x2", "x3"] if policy == "close" else ["x1", "x3"])


def slow_texts(slow: Link) -> list[str]:
    """What a client gets that reads again, behind what filled its kernel."""
    slow.read_all()
    found, _ = parse(slow.stream.lstrip(b"\0"))
    return [each.payload.decode() for each in found]


def test_an_exchange_is_introduced_to_what_there_is() -> None:
    with worker(number=3) as made:
        made.link.connection.join("a")
        made.stage.hub.broadcast("1")
        peer = made.connect_peer()
        made.stage.end_turn(2)
        begin, interest, waiting = come(peer)
        assert (begin.kind, begin.origin) == (START, 3)
        assert begin.payload[8:] == bytes(16)
        assert (interest.kind, interest.server, interest.to) == (INTEREST, SERVER, ("a",))
        assert (waiting.kind, waiting.payload, waiting.sequence) == (MESSAGE, b"1", 1)


def test_many_rooms_are_told_in_several_records() -> None:
    with worker() as made:
        names = {f"room {number}" for number in range(1200)}
        for name in names:
            made.link.connection.join(name)
        records = sent(made, made.connect_peer(), INTEREST)
        assert [len(record.to) for record in records] == [512, 512, 176]
        assert {name for record in records for name in record.to} == names


def test_interest_begins_at_once_and_ends_a_second_later() -> None:
    with worker() as made:
        peer = made.connect_peer()
        assert sent(made, peer, INTEREST) == []
        second = made.stage.link()
        for link in (made.link, second):
            link.connection.join("a")
        assert [record.to for record in sent(made, peer, INTEREST)] == [("a",)]
        before = made.stage.pending()
        made.link.connection.leave("a")
        assert made.stage.pending() == before
        second.connection.leave("a")
        made.stage.loop.advance(0.9)
        assert sent(made, peer, DISINTEREST) == []
        made.stage.loop.advance(0.2)
        assert [record.to for record in sent(made, peer, DISINTEREST)] == [("a",)]
        assert made.stage.pending() == before


def test_members_that_come_back_cost_nothing() -> None:
    with worker() as made:
        peer = made.connect_peer()
        for _ in range(5):
            made.link.connection.join("a")
            made.link.connection.leave("a")
        made.link.connection.join("a")
        made.stage.loop.advance(2)
        made.stage.end_turn(2)
        assert [record.kind for record in come(peer)] == [START, INTEREST]


def test_interests_that_end_are_told_together_in_their_time() -> None:
    with worker() as made:
        peer = made.connect_peer()
        for name in "abc":
            made.link.connection.join(name)
        made.link.connection._be_user("a")
        sent(made, peer)
        made.link.connection.leave("a")
        made.link.connection._be_user(None)
        made.stage.loop.advance(0.5)
        made.link.connection.leave("b")
        made.stage.loop.advance(0.6)
        assert [record.to for record in sent(made, peer, DISINTEREST)] == [("a", UserRoom("a"))]
        made.stage.loop.advance(1.1)
        assert [record.to for record in sent(made, peer, DISINTEREST)] == [("b",)]


def test_the_next_exchange_learns_everything_anew() -> None:
    """Also what has changed while there was none; and nothing that was queued for the one before."""
    with worker() as made:
        first = made.connect_peer()
        made.link.connection.join("a")
        made.link.connection.join("b")
        sent(made, first)
        first.sock.close()
        made.stage.end_turn(2)
        assert not made.bus.connected
        made.link.connection.leave("a")
        made.link.connection.join("c")
        made.stage.hub.broadcast("waits")
        second = made.connect_peer()
        made.link.connection.join("d")
        made.stage.end_turn(2)
        records = come(second)
        assert [(record.kind, record.to) for record in records] == [
            (START, None),
            (INTEREST, ("b", "c")),
            (MESSAGE, None),
            (INTEREST, ("d",)),
        ]


def test_what_was_queued_for_an_exchange_that_is_lost_means_nothing_to_the_next() -> None:
    with worker() as made:
        made.connect_peer()
        made.link.connection.join("a")  # queued, and not sent
        made.link.connection.leave("a")
        peer = made.connect_peer()
        made.stage.end_turn(2)
        assert [record.kind for record in come(peer)] == [START, *[RecordKind.VOID] * 3]


def test_a_start_counts_what_the_exchange_got_and_not_what_waits() -> None:
    with worker() as made:
        first = made.connect_peer()
        for _ in range(3):
            made.stage.hub.broadcast("1")
        made.stage.hub.broadcast("2", to="a")
        assert len(sent(made, first)) == 4
        first.sock.close()
        made.stage.end_turn(2)
        made.stage.hub.broadcast("3")
        made.stage.hub.broadcast("4", to="a")
        second = made.connect_peer()
        [begin] = sent(made, second, START)
        assert [int.from_bytes(begin.payload[at : at + 8], "little") for at in (8, 16)] == [3, 1]


def test_what_waits_too_long_is_dropped_and_counted() -> None:
    with worker(queue=1000) as made:
        for _ in range(100):
            made.stage.hub.broadcast("x" * 60)
            made.stage.hub.broadcast("y" * 60, to="a")
            assert made.bus.waiting <= 1000
        made.stage.loop.advance(0.2)
        peer = made.connect_peer()
        made.stage.end_turn(2)
        begin, gap, *rest = come(peer)
        counts = gap_in(pack(GAP, gap.payload, opcode=gap.opcode))
        assert begin.payload[8:] == bytes(16)
        assert counts[0] == 2
        assert counts[1] + counts[3] + len(rest) == 200
        assert made.bus.losses.totals["unsent"] == counts[1] + counts[3]
        assert made.gaps == []


def test_numbers_that_are_left_out_are_a_gap() -> None:
    with worker() as made:
        peer = made.connect_peer()
        peer.sock.send(start(10) + message("1", 11) + pack_gap(cause=2, plain=3, origin=2) + message("2", 15))
        made.stage.end_turn(2)
        made.stage.loop.advance(0.2)
        assert [(gap.lost, gap.cause) for gap in made.gaps] == [(3, "queue")]
        peer.sock.send(message("3", 18))
        made.stage.end_turn(2)
        made.stage.loop.advance(2)
        assert [(gap.lost, gap.cause) for gap in made.gaps[1:]] == [(2, "exchange")]


def test_what_was_lost_with_an_exchange_is_told_when_the_next_one_knows() -> None:
    with worker() as made:
        first = made.connect_peer()
        first.sock.send(start(10) + message("1", 11))
        first.sock.close()
        made.stage.end_turn(3)
        second = made.connect_peer()
        second.sock.send(start(20, 4))
        made.stage.end_turn(2)
        made.stage.loop.advance(0.2)
        [gap] = made.gaps
        assert (gap.lost, gap.cause) == (None, "exchange")
        assert made.bus.losses.totals["exchange"] == 9
        assert gap.since <= gap.until


def test_two_servers_with_one_number() -> None:
    with worker() as made, pytest.raises(ValueError, match="can not be told from another one"):
        made.attach()


def test_a_bus_that_is_closed_leaves_nothing_behind() -> None:
    with worker() as made:
        peer = made.connect_peer()
        made.bus.close()
        assert peer.sock.recv(1) == b""
        assert made.stage.hub.relay is None
        made.link.connection.join("a")
        made.stage.hub.broadcast("1")
        assert made.bus.published == 0


def test_an_exchange_that_takes_the_place_of_one_that_is_still_there() -> None:
    """What the one before has sent is published all the same."""
    with worker() as made:
        first = made.connect_peer()
        first.sock.send(message("1", 1))
        second = made.connect_peer()
        made.stage.end_turn(2)
        assert made.link.taken() == ["1"]
        made.stage.hub.broadcast("2")
        assert [record.payload for record in sent(made, second)] == [b"2"]


def test_records_that_mean_nothing_here_are_counted() -> None:
    with worker() as made:
        peer = made.connect_peer()
        peer.sock.send(pack(200) + pack(RecordKind.VOID) + pack(RecordKind.OPAQUE, b"?") + message("1", 1))
        made.stage.end_turn(2)
        assert made.bus.unknown == 1 and made.link.taken() == ["1"]


def test_a_start_that_is_too_short_cuts_the_link() -> None:
    with worker() as made:
        peer = made.connect_peer()
        peer.sock.send(pack(START, bytes(23), origin=2))
        made.stage.end_turn(2)
        assert not made.bus.connected
