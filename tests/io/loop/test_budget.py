"""crest.io.loop.budget: what is counted, and who goes when it is too much."""

import gc
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from support.client import CLOSE, TEXT
from support.link import SMALL_KERNEL, Link, Scene, closed_with, leave, scene, text, used

from crest.io.loop.budget import Budget

LOG = 1 << 16
"""Bytes of the log's block that a fan-out keeps."""

SLICE = 1 << 16
"""Bytes that a transport has at most."""

LIMIT = 4_000_000


def stalled(stage: Scene, first: int = 80_000) -> Link:
    """A connection whose kernel takes no more; the transport has the beginning of a message."""
    link = stage.link(send_buffer=SMALL_KERNEL, room=0)
    assert link.connection.send("x" * first)
    stage.end_turn()
    return link


@pytest.fixture
def tight(direct: bool) -> Iterator[Scene]:
    with scene(direct=direct, max_backlog=1 << 24, max_backlog_total=LIMIT) as made:
        yield made


# --- What is counted


def test_a_new_one_has_nothing(stage: Scene) -> None:
    assert used(stage) == 0
    assert stage.turn.budget.limit == (1 << 64) - 1
    assert Budget(stage.loop, 5, stage.turn.run).limit == 5


def test_who_keeps_up_costs_nothing(stage: Scene) -> None:
    link = stage.link()
    for size in (1, 1000, 20_000, 60_000):
        link.connection.send("x" * size)
        stage.end_turn()
        link.read_all()
    assert used(stage) == 0


def test_what_the_transport_has(stage: Scene) -> None:
    link = stage.link(send_buffer=SMALL_KERNEL, room=0)
    link.fill()
    link.connection.send("x" * 1000)
    stage.end_turn()
    assert used(stage) == link.connection.buffered == 1004
    link.read_all()
    assert used(stage) == 0


@pytest.mark.parametrize("size", [10, 1000, 8000])
def test_small_messages(stage: Scene, size: int) -> None:
    """They are copied; a block has room for at most as much again."""
    link = stalled(stage)
    before = used(stage)
    for _ in range(200_000 // size):
        link.connection.send("y" * size)
    assert 200_000 <= used(stage) - before <= 1.2 * 200_000 * (size + 4) / size + LOG
    link.read_all()
    assert used(stage) == 0


def test_a_large_one_counts_once_for_all(stage: Scene) -> None:
    """Whoever waits for it, and whether it waits since the kernel did not take it or was behind others. Both forms of
    it that the `str` keeps count: a byte a letter, and UTF-8."""
    large = "é" * 300_000
    blocked = [stalled(stage) for _ in range(5)]
    fresh = [stage.link(send_buffer=SMALL_KERNEL, room=0) for _ in range(5)]
    before = used(stage)
    for link in blocked + fresh:
        assert link.connection.send(large)
    stage.end_turn()
    assert 900_000 <= used(stage) - before <= 901_000 + 5 * (SLICE + 1024) + 5 * 1024
    for link in blocked + fresh:
        link.read_all()
    assert used(stage) == 0


def test_a_large_binary_one(stage: Scene) -> None:
    link, data = stalled(stage), bytes(100_000)
    before = used(stage)
    assert link.connection.send_binary(data) and link.connection.send_binary(data)
    assert 100_000 <= used(stage) - before <= 102_048
    link.transport.abort()
    stage.end_turn(3)
    assert used(stage) == 0


def test_broadcasts_count_once(stage: Scene) -> None:
    links = [stalled(stage) for _ in range(20)]
    before = used(stage)
    for _ in range(100):
        stage.hub.broadcast("b" * 5000)
        stage.end_turn()
    assert 500_000 <= used(stage) - before <= 500_000 + 2 * LOG
    for link in links:
        link.read_all()
    stage.hub.broadcast("next")
    stage.end_turn()
    assert used(stage) == LOG


def test_values_that_wait(direct: bool) -> None:
    with scene(direct=direct, max_backlog=1 << 24, on_backlog="latest") as stage:
        link = stalled(stage)
        before = used(stage)
        for i in range(300):
            stage.hub.broadcast("v" * 50_000, i % 10)
            stage.end_turn()
        assert 500_000 <= used(stage) - before <= 500_000 + 3 * LOG
        link.read_all()
        assert used(stage) == LOG, "also without another broadcast"
        leave(stage, link)
        link, reader = stalled(stage), stage.link()
        stage.hub.broadcast("v" * 50_000, 0)
        stage.end_turn()
        reader.read_all()
        leave(stage, link)
        assert used(stage) == LOG, "whoever else is still there"


@pytest.mark.parametrize("policy", ["close", "drop-newest", "drop-oldest", "latest"])
@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_forgotten(direct: bool, policy: str, seed: int) -> None:
    """Whatever happens to the messages: as long as they wait, what is counted covers them; then it is nothing."""
    choose = random.Random(seed)
    with scene(direct=direct, max_backlog=300_000, on_backlog=policy) as stage:
        links = [stage.link(send_buffer=SMALL_KERNEL, room=0) for _ in range(6)]
        large = [9000, 20_000, 150_000]
        for _ in range(400):
            link = choose.choice(links)
            what = choose.random()
            if what < 0.4:
                link.connection.send("o" * choose.choice([1, 100, 3000, 8192, 8193]))
            elif what < 0.55:
                link.connection.send("s" * choose.choice(large))  # a new one: what waits twice counts once
            elif what < 0.75:
                stage.hub.broadcast("b" * choose.choice([1, 100, 3000, 70_000]), choose.choice([None, 1, 2, 3]))
            elif what < 0.85:
                size = choose.choice([1, 1000, 50_000])
                link.read(size)
                link.transport.writable(size)
            elif what < 0.88:
                link.connection.close()
            elif what < 0.9:
                leave(stage, link)
                links[links.index(link)] = stage.link(send_buffer=SMALL_KERNEL, room=0)
            elif what < 0.95:
                link.read_all()
            else:
                stage.end_turn()
            if what < 0.85 and choose.random() < 0.2:
                stage.end_turn(2)  # a close frame may be on its way
                assert used(stage) >= max(each.connection.buffered for each in links)
        stage.end_turn()
        for link in links[:3]:
            link.read_all()
        leave(stage, *links)
        for link in links:
            assert link.connection.buffered == 0
        assert used(stage) in (0, LOG)


# --- Who goes


def test_the_slowest_goes_first(tight: Scene) -> None:
    """And only as many as must, in the next turn; who reads is not touched."""
    links, reader = [stalled(tight) for _ in range(5)], tight.link()
    for i, link in enumerate(links):
        for _ in range(i + 1):
            assert link.connection.send(f"{i}" * 200_000 + f"{random.random()}")
    assert all(link.connection.is_open() for link in links)
    assert used(tight) < LIMIT
    assert links[1].connection.send("z" * 1_000_000)
    assert used(tight) > LIMIT
    assert links[1].connection.is_open(), "not within a send"
    tight.end_turn(3)
    assert used(tight) <= LIMIT
    assert [link.connection.is_open() for link in links] == [True, False, True, True, True]
    ((what, error), (_, code, reason)) = tight.seen(links[1])
    assert what == "error" and code == 1013 and error == reason
    assert f"max_backlog_total, {LIMIT} bytes" in error and " 14" in error
    reader.connection.send("still here")
    tight.hub.broadcast("all")
    tight.end_turn()
    assert reader.taken() == ["still here", "all"]


def test_as_many_go_until_a_sixteenth_is_free(tight: Scene) -> None:
    links = [stalled(tight) for _ in range(20)]
    for i, link in enumerate(links):
        assert link.connection.send("y" * (300_000 + i))
    assert used(tight) > LIMIT
    tight.end_turn(2)
    assert LIMIT * 14 // 16 - 300_000 <= used(tight) <= LIMIT * 15 // 16 + 20 * 1024, "and a close frame for each"
    opened = [link.connection.is_open() for link in links]
    assert opened == sorted(opened, reverse=True), "those with the most have gone"
    assert 3 < sum(opened) < 20  # the ends of the others, up to 80 KB each, count on


def test_its_frame_is_whole_and_1013_follows(tight: Scene) -> None:
    """What had begun is sent to its end if that is little; what followed is not."""
    link = stalled(tight, 70_000)
    for _ in range(30):
        assert link.connection.send("y" * 200_000 + f"{random.random()}")
    tight.end_turn(3)
    assert used(tight) <= 2 * SLICE + 4096
    link.read_all()
    first, last = link.frames()
    assert (first.opcode, len(first.payload)) == (TEXT, 70_000)
    assert (last.opcode, last.code) == (CLOSE, 1013)
    assert used(tight) == 0


def test_it_is_1013_also_when_the_server_stops_meanwhile(tight: Scene) -> None:
    link = stalled(tight)
    for _ in range(30):
        assert link.connection.send("y" * 200_000 + f"{random.random()}")
    while link.connection.is_open():
        tight.end_turn()
    assert tight.seen(link) == []
    link.protocol.stop(1012, "restart")
    tight.end_turn(2)
    assert closed_with(link) == 1013


def test_one_within_a_large_message_is_cut_off(tight: Scene) -> None:
    link = stalled(tight, 5_000_000)
    tight.end_turn(3)
    assert link.transport.calls[-1] == "abort"
    assert [event[0] for event in tight.seen(link)] == ["error", "close"]
    assert tight.seen(link)[1][1] == 1013
    assert link.connection.dropped == 1
    assert used(tight) == 0


def test_so_is_one_that_is_closing(tight: Scene) -> None:
    """Its close frame stands behind what waits, and nothing else would free that."""
    link = stalled(tight)
    for _ in range(18):
        assert link.connection.send("y" * 200_000 + f"{random.random()}")
    link.connection.close(4000)
    tight.end_turn()
    other = stalled(tight)
    assert other.connection.send("z" * 500_000)
    tight.end_turn(4)
    assert link.transport.calls[-1] == "abort"
    assert [event[0] for event in tight.seen(link)] == ["error", "close"]
    assert link.connection.dropped == 1 + 18, "what had begun, and what waited for that; the close frame is no message"
    assert other.connection.is_open()
    assert used(tight) < 700_000


def test_so_is_one_in_the_middle_of_more_than_a_transport_has(tight: Scene) -> None:
    """Though what stands behind that would be enough."""
    link = stalled(tight, 300_000)
    for _ in range(19):
        assert link.connection.send("y" * 200_000 + f"{random.random()}")
    tight.end_turn(2)
    assert link.transport.calls[-1] == "abort"
    assert link.connection.dropped == 1 + 19
    assert used(tight) == 0


def test_ends_are_cut_off_too_where_they_are_too_much(direct: bool) -> None:
    """Many connections, of each of which little can be dropped: at once, and no more than must go."""
    limit = 500_000
    with scene(direct=direct, max_backlog_total=limit) as stage:
        links = [stage.link(send_buffer=SMALL_KERNEL, room=0) for _ in range(20)]
        for link in links:
            for size in (80_000, 100_000):
                assert link.connection.send("x" * size)
        stage.end_turn(2)
        assert limit - 80_000 < used(stage) <= limit + 20 * 1024, "and a close frame for each"
        cut = ["abort" in link.transport.calls for link in links]
        assert 10 < sum(cut) < 20
        assert [link.connection.dropped for link in links] == [1 + each for each in cut]


def test_where_none_has_much_no_more_go_than_must(direct: bool) -> None:
    """What waits is in the transports, or has begun: to close a connection would free nothing of that."""
    limit = 1_000_000
    with scene(direct=direct, max_backlog_total=limit) as stage:
        links = [stage.link(send_buffer=SMALL_KERNEL, room=0) for _ in range(20)]
        for link in links:
            assert link.connection.send("x" * 80_000)
        stage.end_turn(2)
        assert limit * 3 / 4 < used(stage) <= limit * 15 / 16
        cut = ["abort" in link.transport.calls for link in links]
        assert 0 < sum(cut) < 20
        assert [link.connection.is_open() for link in links] == [not each for each in cut]


def test_those_that_were_shed_before_go_first(tight: Scene) -> None:
    """They are lost, whatever little they hold: nobody else is closed for that."""
    links, other = [stalled(tight, 70_000) for _ in range(8)], stalled(tight)
    for link in links:
        for _ in range(11):
            assert link.connection.send("y" * 200_000 + f"{random.random()}")
    tight.end_turn(2)
    shed = [link for link in links if not link.connection.is_open()]
    assert len(shed) == 7 and not any("abort" in link.transport.calls for link in shed)
    while used(tight) <= LIMIT:
        assert other.connection.send("z" * 10_000)
    tight.end_turn(2)
    assert 0 < sum("abort" in link.transport.calls for link in shed) < 7
    assert [link for link in links if not link.connection.is_open()] == shed
    assert other.connection.is_open()


def test_only_those_behind_are_looked_at(tight: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Not who has read since, nor who has gone."""
    links = [stalled(tight) for _ in range(3)]
    leave(tight, links[0])
    links[1].read_all()
    for _ in range(21):
        assert links[2].connection.send("y" * 200_000 + f"{random.random()}")
    tight.end_turn(2)
    (record,) = caplog.records
    assert record.getMessage().endswith(f"max_backlog_total is {LIMIT}: of 1 slow connections 1 are closed")
    assert record.levelname == "WARNING"


def test_one_that_can_not_be_shed_does_not_stop_it(
    tight: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [tight.link(send_buffer=SMALL_KERNEL, room=0) for _ in range(3)]

    def failing() -> None:
        raise OSError("no way")

    monkeypatch.setattr(links[0].transport, "abort", failing)
    for size, link in zip((4_300_000, 4_200_000, 4_100_000), links, strict=True):
        assert link.connection.send("x" * size)
    tight.end_turn(3)
    assert links[1].transport.calls[-1] == links[2].transport.calls[-1] == "abort"
    assert [record.getMessage()[:40] for record in caplog.records if record.exc_info] == [
        "What waited for <support.link.Connection"
    ]


def test_lagging_ones_go(direct: bool) -> None:
    """With values of keys: they are freed, though nothing is broadcast any more."""
    with scene(direct=direct, max_backlog=1 << 24, on_backlog="latest", max_backlog_total=LIMIT) as stage:
        link, reader = stalled(stage), stage.link()
        for i in range(100):
            stage.hub.broadcast("v" * 50_000, i)
            stage.end_turn()
            reader.read_all()
        stage.end_turn(2)
        assert closed_with(link) == 1013
        assert len(reader.frames()) == 100
        assert used(stage) == LOG


def test_what_leaves_with_the_turn_is_not_too_much(direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Not even for one that is behind, which does not get it."""
    limits: dict[str, Any] = {"max_backlog": 100_000, "on_backlog": "drop-newest", "max_backlog_total": 250_000}
    with scene(direct=direct, **limits) as stage:
        link, reader = stalled(stage), stage.link()
        for _ in range(10):
            stage.hub.broadcast("x" * 150_000)
            stage.end_turn()
            reader.read_all()
        stage.end_turn(3)
        assert (link.connection.is_open(), link.connection.dropped) == (True, 10)
        assert len(reader.frames()) == 10
    assert not caplog.records


def test_what_is_nobodys_sheds_nobody(direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The log itself is more than the limit."""
    with scene(direct=direct, max_backlog_total=1000) as stage:
        link = stage.link()
        for _ in range(10):
            stage.hub.broadcast("x")
            stage.end_turn(3)
        assert used(stage) == LOG
        assert link.taken() == ["x"] * 10
    assert not caplog.records


def test_handlers_run_when_it_is_over(tight: Scene) -> None:
    """on_error and on_close may send and broadcast: the others' turn has come before."""
    links = [stalled(tight) for _ in range(4)]
    told = []

    def closed(conn: object, code: int, reason: str) -> None:
        told.append(code)
        for link in links:
            link.connection.send("from a handler")
        tight.hub.broadcast("from a handler")

    tight.hub.on_close = closed
    for link in links:
        assert link.connection.send("y" * 1_200_000 + f"{random.random()}")
    tight.end_turn(3)
    assert told and set(told) == {1013}
    assert used(tight) <= LIMIT


def test_it_is_memory_that_is_counted(tight: Scene) -> None:
    """Many small messages to many: what Python has allocated keeps to the limit."""
    links = [tight.link(send_buffer=SMALL_KERNEL, room=0) for _ in range(30)]
    gc.collect()
    tracemalloc.start()
    try:
        before, most = tracemalloc.get_traced_memory()[0], 0
        for i in range(400):
            for j, link in enumerate(links):
                link.connection.send(f"{i:0{100 * (j + 1)}}" * 2)
            tight.hub.broadcast(f"{i:01000}")
            tight.end_turn()
            most = max(most, tracemalloc.get_traced_memory()[0] - before)
        assert LIMIT * 0.8 < most < LIMIT * 1.2
    finally:
        tracemalloc.stop()
    opened = [link.connection.is_open() for link in links]
    assert opened == sorted(opened, reverse=True)
    assert 0 < sum(opened) < 30


def test_who_reads_again_stays(tight: Scene) -> None:
    link, other = stalled(tight), stalled(tight)
    for _ in range(15):
        assert link.connection.send("y" * 200_000 + f"{random.random()}")
    link.read_all()
    for _ in range(15):
        assert other.connection.send("y" * 200_000 + f"{random.random()}")
    tight.end_turn(2)
    link.receive(text("hello"))
    assert link.connection.is_open() and other.connection.is_open()
