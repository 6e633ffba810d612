"""crest.io.loop.turn: what is due is flushed once, at the end of the turn, and the arena lasts as long."""

import asyncio
import logging
import os
import platform
import subprocess
import sys
import threading

import pytest
from support.link import Link, Scene, scene, text
from support.loop import Loop

from crest.io.loop.turn import Turn


def test_it_has_its_loop_and_a_buffer() -> None:
    loop = Loop()
    try:
        assert Turn(loop).loop is loop
        assert len(Turn(loop).read_buffer) == 1 << 18
    finally:
        loop.close()


def test_a_loop_is_needed() -> None:
    with pytest.raises(TypeError):
        Turn(None)


def test_the_end_of_the_turn_is_asked_for_once(stage: Scene) -> None:
    links = [stage.link() for _ in range(5)]
    stage.loop.scheduled.clear()
    for _ in range(3):
        for link in links:
            link.connection.send("x")
        stage.hub.broadcast("y")
    assert stage.loop.scheduled == ["Turn.run"]
    stage.end_turn()
    assert [link.taken() for link in links] == [["x", "y"] * 3] * 5
    links[0].connection.send("z")
    assert stage.loop.scheduled == ["Turn.run"] * 2


def test_a_corked_connection_asks_for_nothing(stage: Scene) -> None:
    stage.hub.on_message = lambda conn, message: conn.send(message)
    link = stage.link()
    stage.loop.scheduled.clear()
    link.receive(text("x") + text("y"))
    assert link.taken() == ["x", "y"]
    assert stage.loop.scheduled == []


def test_output_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    with scene() as stage:
        links = [stage.link() for _ in range(3)]
        broken = links[1].transport
        broken.write = broken.set_write_buffer_limits = fail  # type: ignore[method-assign,assignment]
        for link in links:
            link.connection.send("x")
        stage.end_turn()
        assert links[0].taken() == links[2].taken() == ["x"]
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("crest", logging.ERROR)
        assert record.exc_info


def fail(*_: object) -> None:
    raise OSError("no")


class Telling(logging.Handler):
    """Sends each line of the log to a client, and broadcasts it."""

    def __init__(self, stage: Scene, link: Link) -> None:
        super().__init__()
        self.stage, self.link = stage, link

    def emit(self, record: logging.LogRecord) -> None:
        assert self.link.connection.send("sent")
        assert self.link.connection.send_binary(b"sent, too")
        self.stage.hub.broadcast("broadcast")


def test_what_is_sent_while_output_fails_follows_when_that_is_over() -> None:
    """The log's handlers are called in the middle of it, and may send: in order, and as soon as the rest has left."""
    with scene() as stage:
        broken, link, other = [stage.link() for _ in range(3)]
        broken.transport.write = broken.transport.set_write_buffer_limits = fail  # type: ignore[method-assign,assignment]
        telling = Telling(stage, link)
        logger = logging.getLogger("crest")
        logger.addHandler(telling)
        try:
            for each in (broken, link, other):
                each.connection.send("x")
            stage.end_turn()
        finally:
            logger.removeHandler(telling)
        stage.end_turn(2)
        link.read_all()
        other.read_all()
        assert [frame.payload for frame in link.frames()] == [b"x", b"sent", b"sent, too", b"broadcast"]
        assert [frame.payload for frame in other.frames()] == [b"x", b"broadcast"]


def test_arena_memory_is_used_again_only_when_all_of_it_has_left(stage: Scene) -> None:
    """A chunk is read, and answered, while output of others waits in the arena for the end of the turn."""
    stage.hub.on_message = lambda conn, message: conn.send(message * 1000)
    one, other, slow = stage.link(), stage.link(), stage.link(send_buffer=4608, room=0)
    for i in range(100):
        one.connection.send(f"one {i}")
        slow.connection.send(f"slow {i}" * 100)
        other.receive(text(f"{i:2}"))
        other.read()
    stage.end_turn()
    assert one.taken() == [f"one {i}" for i in range(100)]
    assert other.taken() == [f"{i:2}" * 1000 for i in range(100)]
    assert slow.taken() == [f"slow {i}" * 100 for i in range(100)]


def test_the_arena_overflows_while_a_chunk_is_read(stage: Scene) -> None:
    """What others are owed leaves then, too, and so does what the corked connection is owed, in order."""
    other = stage.link()

    def answer(conn: object, message: str) -> None:
        for i in range(100):
            other.connection.send(f"{message} {i}" * 500)
            conn.send(f"{i} {message}" * 500)  # type: ignore[attr-defined]

    stage.hub.on_message = answer
    link = stage.link()
    link.receive(text("a") + text("b"))
    stage.end_turn()
    assert link.taken() == [f"{i} {message}" * 500 for message in "ab" for i in range(100)]
    assert other.taken() == [f"{message} {i}" * 500 for message in "ab" for i in range(100)]


def test_the_arena_overflows_at_a_send_to_who_is_blocked_by_that(stage: Scene) -> None:
    """Making room flushes what is due, the sender's own too, whose kernel is full: its message must be kept."""
    link, others = stage.link(room=0), [stage.link() for _ in range(8)]
    before = link.fill()
    link.connection.send("first")
    for _ in range(2):
        for i in range(40):
            for other in others:
                other.connection.send(f"{i:02}" * 400)
        link.connection.send("second" * 1000)
    for i in range(40):
        for other in others:
            other.connection.send(f"{i:02}" * 400)
    stage.end_turn()
    assert link.connection.buffered > 0
    link.read_all()
    del link.stream[:before]
    assert link.texts() == ["first", "second" * 1000, "second" * 1000]
    for other in others:
        assert other.taken() == [f"{i:02}" * 400 for i in range(40)] * 3


def test_a_chunk_of_one_connection_in_the_callback_of_another(stage: Scene) -> None:
    """A connection that opens is corked too; what the one before sent at its end does not linger."""
    stage.hub.on_connect = lambda conn: stage.hub.broadcast("new") or conn.send("welcome")
    first = stage.link()
    second = stage.link(rest=text("x"))
    stage.end_turn()
    assert first.taken() == ["new", "welcome", "new"]
    assert second.taken() == ["new", "welcome"]


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "transport"])
def test_a_send_out_of_a_task_needs_no_other_event(direct: bool) -> None:
    """No other event comes: the loop is asked for a turn."""
    with scene(direct=direct) as stage:
        link = stage.link()

        async def later() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            link.connection.send("a")
            link.connection.send("b")

        task = stage.loop.create_task(later())
        while not task.done():
            stage.end_turn()
        stage.end_turn()
        assert link.taken() == ["a", "b"]


def test_sends_of_a_timer_and_a_task_of_one_turn_leave_together() -> None:
    with scene() as stage:
        link = stage.link()
        link.transport.writes.clear()

        async def task() -> None:
            link.connection.send("task")

        stage.loop.call_later(5, link.connection.send, "timer")
        made = stage.loop.create_task(task())
        stage.loop.advance(5)
        stage.end_turn()
        assert made.done()
        assert link.transport.writes == [b"\x81\x05timer\x81\x04task"]


def test_calls_from_elsewhere_keep_their_order(stage: Scene) -> None:
    called: list[int] = []

    def work() -> None:
        assert all(stage.turn.call_later(called.append, i) for i in range(100))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert called == []
    stage.end_turn()
    assert called == list(range(100))


def test_a_closed_loop_is_called_no_more() -> None:
    with scene() as stage:
        link: Link = stage.link()
    assert not stage.turn.call_later(link.connection.send, "x")


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="it is glibc's malloc that has to learn, not a sanitizer's",
)
def test_memory_of_large_messages_is_not_given_back_each_time() -> None:
    program = """
import crest.io.loop.turn
from resource import RUSAGE_SELF, getrusage
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(1000):
    messages = [bytes(1 << 16) for _ in range(16)]
    del messages
print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert int(done.stdout) < 10_000, "page faults: a few hundred, or else 150 a round"
