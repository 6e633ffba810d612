"""crest.cluster.bus: what workers say to each other beside messages, and messages for one connection of another one."""

import threading
from typing import Any

import pytest
from support.bus import worker
from support.client import BINARY, TEXT
from support.said import SERVER, sent, start

from crest.cluster.record import RecordKind, pack, pack_gap


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
        (interest,) = [record for record in peer.records() if record.kind == RecordKind.INTEREST and record.server == 0]
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
        peer.sock.send(pack_gap(plain=1, origin=3))
        made.stage.end_turn(2)
        made.stage.loop.advance(2)
        assert [gap.lost for gap in made.gaps] == [1], "of the application's messages"
        assert peers.notes[8:] == []


def test_workers_are_believed_in_until_they_are_known_to_be_gone() -> None:
    """Over two exchanges, of which one ended before any worker was heard of."""
    with worker(number=9) as made:
        peer = made.connect_peer()
        peer.sock.send(start(0, incarnation=7, origin=2) + start(0, incarnation=8, origin=3))
        made.stage.end_turn(2)
        peer = made.connect_peer()
        peer = made.connect_peer()
        assert made.bus.reaches(process(7)) and made.bus.reaches(process(8))
        peer.sock.send(left(2))
        made.stage.end_turn(2)
        assert not made.bus.reaches(process(7)) and made.bus.reaches(process(8))


def test_what_is_not_understood_of_other_workers_cuts_no_link(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def began(self, number: int, process: str) -> None:
            raise ZeroDivisionError

        def left(self, number: int) -> None:
            raise ZeroDivisionError

        def unsure(self) -> None:
            raise ZeroDivisionError

    with worker(number=9) as made:
        made.bus.peers = Failing()
        peer = made.connect_peer()
        peer.sock.send(start(0, incarnation=7, origin=2) + left(2) + pack_gap(others=1, origin=3))
        made.stage.end_turn(2)
        assert made.bus.connected
        assert caplog.messages == ["What is known of other workers could not be kept up"] * 4


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


def test_a_message_for_one_connection_from_another_thread() -> None:
    with worker(number=9) as made:
        peer = made.connect_peer()
        peer.sock.send(start(0, incarnation=7))
        made.stage.end_turn(2)
        found: list[bool] = []
        thread = threading.Thread(
            target=lambda: found.append(made.stage.hub.send_elsewhere(process(7), 5, TEXT, "x", True))
        )
        thread.start()
        thread.join()
        [record] = sent(made, peer)
        assert found == [True] and record.payload == b"x"


def test_a_message_for_one_connection_is_sent_to_it_alone() -> None:
    with worker() as made:
        peer = made.connect_peer()
        other = made.stage.link()
        own = made.link.connection._number << 32 | SERVER

        def to_one(key: int, sequence: int, **options: Any) -> bytes:
            return pack(
                RecordKind.MESSAGE, origin=2, server=0, sequence=sequence, to=(made.bus.process,), key=key, **options
            )

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
