"""crest.cluster.link: whole records come out of whatever the kernel gives, and go in one send a turn."""

import random

from support.bus import join, switch, worker

from crest.cluster.record import RecordKind, pack

MESSAGE = RecordKind.MESSAGE


def test_records_arrive_whole_whatever_the_pieces() -> None:
    """Small and large ones, the largest larger than a block, written in pieces of any size."""
    chance = random.Random(3)
    with switch() as (stage, made):
        a, b = join(made, 1), join(made, 2)
        payloads = [chance.randbytes(chance.choice([0, 5, 1000, 70_000, 131_000, 400_000])) for _ in range(60)]
        stream = b"".join(pack(MESSAGE, payload) for payload in payloads)
        found = []
        while stream:
            size = chance.choice([1, 39, 40, 41, 3000, 100_000])
            try:
                sent = a.sock.send(stream[:size])
            except BlockingIOError:
                sent = 0
            stream = stream[sent:]
            stage.end_turn(3)
            found += [record.payload for record in b.records()]
        while len(found) < len(payloads):
            stage.end_turn(2)
            found += [record.payload for record in b.records()]
        assert found == payloads


def test_blocks_that_are_kept_are_not_written_to() -> None:
    """A reader that has stopped gets later what came first."""
    with switch() as (stage, made):
        a, slow = join(made, 1), join(made, 2, 1 << 24, buffer=4608)
        payloads = [bytes([i % 256]) * 60_000 for i in range(50)]
        for payload in payloads:
            stream = pack(MESSAGE, payload)
            while stream:
                try:
                    stream = stream[a.sock.send(stream) :]
                except BlockingIOError:
                    pass
                stage.end_turn(2)
        found = []
        while len(found) < len(payloads):
            found += [record.payload for record in slow.records()]
            stage.end_turn(2)
        assert found == payloads


def test_everything_of_a_turn_leaves_in_one_send() -> None:
    with worker() as made:
        import socket

        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setblocking(False)
        other.setblocking(False)
        made.bus.connect(mine.detach())
        made.stage.end_turn(2)
        other.recv(1 << 16)  # what a worker says first
        for _ in range(100):
            made.stage.hub.broadcast("x" * 50)
        made.stage.end_turn(2)
        assert len(other.recv(1 << 16)) == 100 * 90
        other.close()


def test_an_end_is_told_once_and_bytes_before_it_count() -> None:
    with worker() as made:
        peer = made.connect_peer()
        peer.sock.send(pack(MESSAGE, b"last", opcode=1, server=1, sequence=1))
        peer.sock.close()
        assert made.bus.connected
        made.stage.end_turn(3)
        assert not made.bus.connected
        assert made.bus.unknown == 1


def test_garbage_cuts_the_link_and_no_other() -> None:
    with switch() as (stage, made):
        a, b, c = join(made, 1), join(made, 2), join(made, 3)
        a.sock.send(pack(MESSAGE, b"1") + b"\xff" * 100)
        stage.end_turn(3)
        assert a.sock.recv(1) == b""
        b.sock.send(pack(MESSAGE, b"2"))
        stage.end_turn(3)
        assert [record.payload for record in c.records()] == [b"1", b"2"]
        assert len(made.ports) == 2


def test_what_waits_outlives_the_socket() -> None:
    with worker() as made:
        made.stage.hub.broadcast("1")
        made.stage.end_turn(2)
        assert made.bus.waiting > 0
        first = made.connect_peer()
        made.stage.end_turn(2)
        assert [record.payload for record in first.records() if record.kind == MESSAGE] == [b"1"]
        assert made.bus.waiting == 0


def test_a_poller_that_ends_closes_links() -> None:
    with switch() as (stage, made):
        a = join(made, 1)
        assert stage.turn.poller is not None
        stage.turn.poller.close()
        assert a.sock.recv(1) == b""
