"""io/out/pieces: the queue of an outbox, as far as it shows: order, what it costs, and that nothing stays behind."""

import gc
import tracemalloc

from support.client import TEXT, Frame
from support.link import SMALL_KERNEL, Link, Scene


def full(stage: Scene) -> Link:
    """A connection whose kernel takes nothing more."""
    link = stage.link(send_buffer=SMALL_KERNEL, room=0)
    link.connection.send("x" * 100_000)
    stage.end_turn()
    return link


def test_pieces_of_every_kind_keep_their_order(stage: Scene) -> None:
    """In the arena, in blocks of the queue's own, in blocks of a broadcast's log, and referenced."""
    link = stage.link()
    sent = []
    for i in range(15):
        for text in (f"{i}", f"{i}" + "x" * 9000, f"{i}" + "y" * 70):
            link.connection.send(text)
            stage.hub.broadcast("b" + text)
            sent += [Frame(TEXT, text.encode()), Frame(TEXT, b"b" + text.encode())]
    stage.end_turn()
    link.read_all()
    assert link.frames() == sent


def test_what_waits_is_freed_with_the_connection(stage: Scene) -> None:
    link = full(stage)
    large = "x" * 600_000
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(1000):
            link.connection.send(f"{i:100}")
            stage.hub.broadcast(f"{i:100}")
        assert link.connection.send(large + "y")
        stage.end_turn()
        assert tracemalloc.get_traced_memory()[0] - before > 700_000
        link.protocol.connection_lost(None)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 150_000, "the log may keep a block"
    finally:
        tracemalloc.stop()


def test_a_queue_of_tiny_frames_costs_about_their_bytes(stage: Scene) -> None:
    link = full(stage)
    tracemalloc.start()
    try:
        before = link.connection.buffered
        for _ in range(50_000):
            link.connection.send("tiny")
        stage.end_turn()
        cost = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert link.connection.buffered - before == 300_000
    assert cost < 2 * 300_000 + (1 << 18)
