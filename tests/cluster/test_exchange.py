"""crest.cluster.exchange: the process, and three workers around it."""

import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.bus import Exchange, Worker, exchange, switch, until, worker

from crest import UserRoom
from crest.cluster.exchange import Orders
from crest.cluster.record import RecordKind, pack
from crest.wire.extensions import Agreement, Deflate

MESSAGE = RecordKind.MESSAGE
AGREED = Agreement(False, False, 15, 15, "permessage-deflate")


@pytest.fixture
def three() -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield [stack.enter_context(worker(number, 1 << 24, deflate=Deflate())) for number in (1, 2, 3)]


def settle(workers: list[Worker]) -> None:
    """Wait until everything that was sent before has come everywhere: as the exchange keeps the order, a last message
    of each worker to all says so."""
    stages = [each.stage for each in workers]
    ends = [each.stage.link() for each in workers]
    for number, each in enumerate(workers):
        each.stage.hub.broadcast(f"end {number}")
    texts: list[list[str]] = [[] for _ in workers]

    def whole() -> bool:
        for found, end in zip(texts, ends, strict=True):
            found += end.taken()
        return all(sum(text.startswith("end ") for text in found) == len(workers) for found in texts)

    until(whole, *stages)


def texts(each: Worker) -> list[str]:
    return [text for text in each.link.taken() if not text.startswith("end ")]


def test_three_workers(three: list[Worker]) -> None:
    a, b, c = three
    with exchange(*(each.bus for each in three)):
        settle(three)
        compressing = c.stage.link(agreed=AGREED)
        b.link.connection.join("x")
        c.link.connection._be_user("ann")
        settle(three)
        for each in three:
            texts(each)
        compressing.inflated()
        a.stage.hub.broadcast("all " * 100)
        a.stage.hub.broadcast("others", exclude=a.link.connection, key="k")
        a.stage.hub.broadcast("x", to="x")
        a.stage.hub.broadcast("ann", to=UserRoom("ann"))
        a.stage.hub.broadcast("here", local=True)
        b.stage.hub.broadcast("nowhere", to="y")
        settle(three)
        assert texts(a) == ["all " * 100, "here"]
        assert texts(b) == ["all " * 100, "others", "x"]
        assert texts(c) == ["all " * 100, "others", "ann"]
        found = [each for each in compressing.inflated() if not each[0].startswith("end ")]
        assert found == [("all " * 100, True), ("others", False)]
        assert [each.gaps for each in three] == [[], [], []]


def test_each_publisher_keeps_its_order(three: list[Worker]) -> None:
    with exchange(*(each.bus for each in three)):
        settle(three)
        for each in three:
            each.link.connection.join("x")
        settle(three)
        for each in three:
            texts(each)
        for number in range(500):
            for each in three:
                each.stage.hub.broadcast(f"{each.bus.number} {number}", to="x" if number % 3 else None)
            if number % 50 == 0:
                for each in three:
                    each.stage.end_turn()
        settle(three)
        for each in three:
            found = texts(each)
            for origin in (1, 2, 3):
                assert [text for text in found if text.startswith(f"{origin} ")] == [
                    f"{origin} {number}" for number in range(500)
                ]


def test_an_exchange_that_is_killed_loses_what_is_counted(three: list[Worker]) -> None:
    """At any moment: what was sent is what came and what was counted."""
    a, b, c = three
    got = [0, 0]

    def count() -> None:
        for place, each in enumerate((b, c)):
            got[place] += len(texts(each))

    sent = 0
    with ExitStack() as stack:
        for _ in range(4):
            made = stack.enter_context(exchange(*(each.bus for each in three)))
            settle(three)
            count()
            for _ in range(30):
                for _ in range(100):
                    a.stage.hub.broadcast("message " * 20)
                    sent += 1
                a.stage.end_turn()
            made.process.send_signal(signal.SIGSTOP)
            for _ in range(50):
                a.stage.hub.broadcast("lost with it")
                sent += 1
            a.stage.end_turn()
            made.kill()
            until(lambda: not any(each.bus.connected for each in three), *(each.stage for each in three))
            for _ in range(10):
                a.stage.hub.broadcast("while there is none")
                sent += 1
            count()
        stack.enter_context(exchange(*(each.bus for each in three)))
        settle(three)
        a.stage.hub.broadcast("after")
        settle(three)
        count()
        lost = [each.bus.losses.totals for each in (b, c)]
        assert [got[place] + lost[place]["exchange"] for place in (0, 1)] == [sent + 1, sent + 1]
        assert all(each["exchange"] >= 200 for each in lost)
        assert all(each["slow"] == each["queue"] == 0 for each in lost)


def test_it_ends_with_its_supervisor_and_with_no_signal() -> None:
    made = Exchange()
    peer, other = made.connect_peer(1), made.connect_peer(2)
    peer.sock.send(pack(MESSAGE, b"1"))
    until(lambda: bool(other.records()))
    for each in (signal.SIGINT, signal.SIGTERM):
        made.process.send_signal(each)
    peer.sock.send(pack(MESSAGE, b"2"))
    until(lambda: bool(other.records()))
    assert made.close() == (0, "")


def test_lines_that_make_no_sense_are_logged() -> None:
    made = Exchange()
    made.line(b"no descriptor")
    null = os.open(os.devnull, os.O_RDONLY)
    made.line(b"no json", null)
    made.line(b'{"queue": 1}', null)
    os.close(null)
    peer, other = made.connect_peer(1), made.connect_peer(2)
    peer.sock.send(pack(MESSAGE, b"1"))
    until(lambda: bool(other.records()))
    code, errors = made.close()
    assert (code, errors.count("could not be carried out")) == (0, 3)


def test_lines_may_come_in_pieces() -> None:
    with exchange() as made:
        peer, other = made.connect_peer(1), made.connect_peer(2)
        mine, end = socket.socketpair()
        with mine, end:
            made.control.send(b'{"li')
            socket.send_fds(made.control, [b'nk": 3'], [end.fileno()])
            made.control.send(b"}\n")
            until(lambda: made.process.poll() is None)
            peer.sock.send(pack(MESSAGE, b"1"))
            until(lambda: bool(other.records()))


def test_a_link_that_is_full_is_told_of_in_the_log() -> None:
    """By a timer, of which a process without an event loop has one."""
    with worker(1, 1 << 24) as fast, exchange() as made:
        made.connect(fast.bus)
        slow = made.connect_peer(2, queue=1000)
        text = "x" * 1000
        while not select.select([made.process.stderr], [], [], 0)[0]:
            fast.stage.hub.broadcast(text)
            fast.stage.end_turn()
        assert made.process.stderr is not None
        assert b"Worker 2 does not keep up" in made.process.stderr.readline()
        assert slow.read(1), "it has got the first ones"


def test_a_line_that_can_not_be_carried_out_closes_its_descriptor() -> None:
    with switch() as (_, made):
        control, other = socket.socketpair()
        with control, other:
            control.setblocking(False)
            orders = Orders(control, made)
            mine, theirs = socket.socketpair()
            with mine, theirs:
                socket.send_fds(other, [b'{"link": "?"}\n'], [theirs.fileno()])
            orders.receive()
            assert not orders.fds and not orders.ended
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            other.close()
            orders.receive()
            assert orders.ended


def test_it_imports_nothing_of_a_user() -> None:
    """From whatever directory it is started."""
    code = "import sys; import crest.cluster.exchange; print(*sorted(sys.modules))"
    command = [sys.executable, "-P", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "crest.cluster.switch" in found
    assert "crest.cluster.bus" not in found
    assert "uvloop" not in found
