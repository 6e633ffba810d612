"""crest.cluster.bus: what is broadcast in one worker reaches the clients of another; interests and losses are told."""

from typing import Any

import pytest
from support.bus import Peer, Worker, worker
from support.client import BINARY, TEXT
from support.link import Link, parse

from crest import UserRoom
from crest.cluster.record import RecordKind, Unpacked, gap_in, pack, pack_gap, server_id

MESSAGE, GAP, START = RecordKind.MESSAGE, RecordKind.GAP, RecordKind.START
INTEREST, DISINTEREST = RecordKind.INTEREST, RecordKind.DISINTEREST
SERVER = server_id("/")


def sent(made: Worker, peer: Peer, kind: int = MESSAGE) -> list[Unpacked]:
    """The records of a kind that the worker has sent."""
    made.stage.end_turn(2)
    return [record for record in come(peer) if record.kind == kind]


def come(peer: Peer) -> list[Unpacked]:
    """What has come for the application's sake; not the names that the worker listens to."""
    return [record for record in peer.records() if (record.kind, record.server) != (INTEREST, 0)]


def start(plain: int, addressed: int = 0, incarnation: int = 7, origin: int = 2) -> bytes:
    numbers = b"".join(number.to_bytes(8, "little") for number in (incarnation, plain, addressed))
    return pack(START, numbers, origin=origin)


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


# ---- What workers say to each other ----------------------------------------------------------------------------------


def left(origin: int = 2) -> bytes:
    return pack(RecordKind.LEFT, origin=origin)


def told(name: str, data: bytes) -> bytes:
    return pack(RecordKind.OPAQUE, data, origin=2, server=0, to=(name,))


def process(number: int) -> str:
    """What a process with this incarnation is called."""
    return f"{number:016x}"


def test_who_listens_to_a_name_hears_what_others_tell_it() -> None:
    heard: list[object] = []
    with worker(number=9) as made:
        made.bus.listen("name", lambda *what: heard.append(what))
        peer = made.connect_peer()
        made.stage.end_turn(2)
        (interest,) = [record for record in peer.records() if record.kind == INTEREST and record.server == 0]
        assert set(interest.to) == {"name", made.bus.process}
        made.bus.tell("other", b"hello")
        (record,) = sent(made, peer, RecordKind.OPAQUE)
        assert (record.to, record.payload, record.origin) == (("other",), b"hello", 9)
        peer.sock.send(told("name", b"1") + told("nobody", b"2") + told("name", b"3"))
        made.stage.end_turn(2)
        assert heard == [(2, b"1"), (2, b"3")]
        made.bus.listen("late", lambda *what: heard.append(what))
        made.stage.end_turn(2)
        assert [record.to for record in peer.records()] == [("late",)]
        made.bus.unlisten("name")
        made.bus.unlisten("name")
        peer.sock.send(told("name", b"4") + told("late", b"5"))
        made.stage.end_turn(2)
        assert heard[2:] == [(2, b"5")] and made.bus.published == 0


def test_a_listener_that_fails_is_logged_and_the_next_is_called(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[object] = []
    with worker() as made:
        peer = made.connect_peer()
        made.bus.listen("bad", lambda *what: 1 / 0)
        made.bus.listen("good", lambda *what: heard.append(what))
        peer.sock.send(told("bad", b"1") + told("good", b"2"))
        made.stage.end_turn(2)
        assert heard == [(2, b"2")] and "could not be carried out" in caplog.text
        caplog.clear()


class Peers:
    """Notes what it is told of other workers."""

    def __init__(self) -> None:
        self.notes: list[object] = []

    def began(self, number: int, process: str) -> None:
        self.notes.append(("began", number, process))

    def left(self, number: int) -> None:
        self.notes.append(("left", number))

    def unsure(self) -> None:
        self.notes.append("unsure")


def test_other_workers_are_known_by_their_processes() -> None:
    with worker() as made:
        made.bus.peers = peers = Peers()
        peer = made.connect_peer()
        assert peers.notes == ["unsure"]
        peer.sock.send(start(0, incarnation=7, origin=2) + start(0, incarnation=8, origin=3) + start(0, origin=2))
        made.stage.end_turn(2)
        assert peers.notes[1:] == [("began", 2, process(7)), ("began", 3, process(8))]
        assert made.bus.numbers == {process(7): 2, process(8): 3}
        assert made.bus.reaches(process(7)) and not made.bus.reaches(process(9))
        peer.sock.send(left(2) + left(5))
        made.stage.end_turn(2)
        assert peers.notes[3:] == [("left", 2), ("left", 5)]
        assert not made.bus.reaches(process(7)) and made.bus.reaches(process(8))
        peer = made.connect_peer()  # the next exchange
        assert made.bus.reaches(process(8)), "as far as is known"
        assert peers.notes[5:] == ["unsure"]
        peer.sock.send(start(0, incarnation=8, origin=3) + pack_gap(others=1, origin=3))
        made.stage.end_turn(2)
        assert peers.notes[6:] == [("began", 3, process(8)), "unsure"]


def test_a_message_for_one_connection_goes_to_its_process() -> None:
    with worker(number=9) as made:
        peer = made.connect_peer()
        hub = made.stage.hub
        peer.sock.send(start(0, incarnation=7))
        made.stage.end_turn(2)
        assert hub.send_elsewhere(process(7), 5, TEXT, "h\xe9", True)
        assert hub.send_elsewhere(process(7), 6, BINARY, bytearray(b"b"), False)
        assert not hub.send_elsewhere(process(8), 5, TEXT, "nobody", True)
        first, second = sent(made, peer)
        assert (first.server, first.to, first.key, first.payload) == (0, (process(7),), 5 << 32 | SERVER, b"h\xc3\xa9")
        assert (second.opcode, second.key, second.payload, second.compress) == (BINARY, 6 << 32 | SERVER, b"b", False)
        with pytest.raises(TypeError, match="send_to"):
            hub.send_elsewhere(process(7), 5, TEXT, b"bytes", True)


def test_a_message_for_one_connection_is_sent_to_it_alone() -> None:
    with worker() as made:
        peer = made.connect_peer()
        other = made.stage.link()
        own = made.link.connection._number << 32 | SERVER

        def to_one(key: int, sequence: int, **options: Any) -> bytes:
            return pack(MESSAGE, origin=2, server=0, sequence=sequence, to=(made.bus.process,), key=key, **options)

        peer.sock.send(
            to_one(own, 1, payload=b"h\xc3\xa9", opcode=TEXT)
            + to_one(own + (99 << 32), 2, payload=b"gone", opcode=TEXT)
            + to_one(own + 1, 3, payload=b"no such server", opcode=TEXT)
            + to_one(own, 4, payload=b"\xff", opcode=BINARY)
        )
        made.stage.end_turn(2)
        made.link.read_all()
        frames = [(each.opcode, each.payload) for each in made.link.frames()]
        assert frames == [(TEXT, b"h\xc3\xa9"), (BINARY, b"\xff")]
        other.read_all()
        assert other.frames() == []
