"""crest.io.life.patience: a peer is asked for a sign of life in time, and ended if it gives none."""

import asyncio
from typing import Any

import pytest
from support.beating import INTERVAL, LATE, TIMEOUT, pass_time, ping_timed_out, pings
from support.client import CLOSE, PING, PONG, close_frame, frame
from support.link import Scene, closed_with, ping, scene, text


def test_a_silent_peer_is_pinged_and_an_answer_is_enough(beating: Scene) -> None:
    link = beating.link()
    for _ in range(4):
        pass_time(beating, INTERVAL - LATE)
        assert pings(link) == []
        pass_time(beating, 2 * LATE)
        (payload,) = pings(link)
        link.receive(frame(PONG, payload))
    assert link.connection.is_open()


def test_latency_is_kept_up_to_date(beating: Scene) -> None:
    link = beating.link()
    for delay in (1, 3):
        pass_time(beating, INTERVAL + LATE)
        (payload,) = pings(link)
        begun = beating.loop.clock
        pass_time(beating, delay)
        link.receive(frame(PONG, payload))
        assert beating.loop.clock - begun <= link.connection.latency <= beating.loop.clock - begun + 2 * LATE


def test_a_peer_that_vanishes_is_found_in_time(beating: Scene) -> None:
    link = beating.link()
    link.receive(text("the last"))
    pass_time(beating, INTERVAL + TIMEOUT - 2 * LATE)
    assert not ping_timed_out(beating, link)
    pass_time(beating, 4 * LATE)
    assert ping_timed_out(beating, link)
    link.read_all()
    assert closed_with(link) == 1011
    assert not link.connection.is_open()
    pass_time(beating, 10 + LATE)
    assert beating.site.gone == [link.protocol], "close_timeout is over"


@pytest.mark.parametrize("heard_after", [0.1, 1, 7, 13, 19.9])
def test_it_is_found_in_time_whenever_it_was_heard_last(beating: Scene, heard_after: float) -> None:
    link = beating.link()
    pass_time(beating, heard_after)
    link.receive(text("the last"))
    pass_time(beating, INTERVAL * 15 / 16 + TIMEOUT - 2 * LATE)
    assert not ping_timed_out(beating, link)
    pass_time(beating, INTERVAL / 16 + 4 * LATE)
    assert ping_timed_out(beating, link)


@pytest.mark.parametrize("life", [text("x"), ping(b""), frame(PONG, b"unasked"), text("x" * 99)[:50]])
def test_whatever_comes_is_a_sign_of_life(beating: Scene, life: bytes) -> None:
    """A busy peer is never pinged."""
    link = beating.link()
    for byte_or_frame in [bytes([byte]) for byte in life] if len(life) == 50 else [life] * 20:
        pass_time(beating, INTERVAL / 2)
        link.receive(byte_or_frame)
    link.read_all()
    assert link.connection.is_open()
    assert PING not in [each.opcode for each in link.frames()]


def test_another_frame_than_the_pong_is_an_answer_too(beating: Scene) -> None:
    link = beating.link()
    pass_time(beating, INTERVAL + LATE)
    assert len(pings(link)) == 1
    pass_time(beating, TIMEOUT - 1)
    link.receive(text("here I am"))
    pass_time(beating, TIMEOUT)
    assert link.connection.is_open()
    assert pings(link) == []
    pass_time(beating, INTERVAL - TIMEOUT + LATE)
    assert len(pings(link)) == 1


def test_pings_of_the_application_go_beside(beating: Scene) -> None:
    link = beating.link()
    pass_time(beating, INTERVAL + LATE)
    (first,) = pings(link)
    assert link.connection.ping()
    pass_time(beating, 1)
    (second,) = pings(link)
    link.receive(frame(PONG, first))
    assert link.connection.latency is None, "it answers an older one, and yet is a sign of life"
    link.receive(frame(PONG, second))
    assert link.connection.latency == pytest.approx(1, abs=LATE)
    pass_time(beating, TIMEOUT + LATE)
    assert link.connection.is_open()


def test_the_application_s_pings_do_not_keep_a_vanished_peer(beating: Scene) -> None:
    link = beating.link()
    for _ in range(INTERVAL + TIMEOUT + 1):
        pass_time(beating, 1)
        link.connection.ping()
    assert ping_timed_out(beating, link)


# --- Off, or only in part


def test_no_heartbeat_by_default(stage: Scene) -> None:
    link = stage.link()
    assert stage.pending() == []
    pass_time(stage, 100)
    assert pings(link) == []


def test_pings_without_a_timeout(direct: bool) -> None:
    with scene(direct=direct, ping_interval=5) as stage:
        link = stage.link()
        pass_time(stage, 100)
        assert 18 <= len(pings(link)) <= 21
        assert link.connection.is_open()


def test_a_timeout_without_pings_is_none(direct: bool) -> None:
    with scene(direct=direct, ping_timeout=5) as stage:
        link = stage.link()
        pass_time(stage, 100)
        assert pings(link) == [] and link.connection.is_open()


def test_a_timeout_longer_than_the_interval(direct: bool) -> None:
    with scene(direct=direct, ping_interval=5, ping_timeout=60) as stage:
        link = stage.link()
        for _ in range(6):
            pass_time(stage, 5 + LATE)
            (payload,) = pings(link)
            link.receive(frame(PONG, payload))
        pass_time(stage, 64)
        assert link.connection.is_open()
        assert len(pings(link)) == 1
        pass_time(stage, 1 + 2 * LATE)
        assert stage.seen(link)[-1][:2] == ("close", 1011)


# --- Idle


def test_a_peer_that_only_answers_pings_is_idle(direct: bool) -> None:
    with scene(direct=direct, ping_interval=5, ping_timeout=5, idle_timeout=60) as stage:
        link = stage.link()
        link.receive(text("x"))
        passed = 0.0
        reason = "idle: no message came for 60 s"
        while link.connection.is_open() and passed < 100:
            pass_time(stage, 1)
            passed += 1
            link.read_all()
            for each in link.frames():
                if each.opcode == PING:
                    link.receive(frame(PONG, each.payload))
                else:
                    assert (each.opcode, each.code, each.reason) == (CLOSE, 1001, reason)
        assert 60 <= passed <= 61 + LATE
        link.receive(close_frame(1001, reason))
        assert stage.seen(link) == [("close", 1001, reason)], "it is no error"


@pytest.mark.parametrize("message", [text("x"), frame(0x2, b"x")])
def test_messages_keep_a_connection_from_being_idle(direct: bool, message: bytes) -> None:
    with scene(direct=direct, idle_timeout=10) as stage:
        link = stage.link()
        for _ in range(10):
            pass_time(stage, 9)
            link.receive(message)
        assert link.connection.is_open()
        pass_time(stage, 10 - LATE)
        assert link.connection.is_open()
        pass_time(stage, 3 * LATE)
        assert not link.connection.is_open()


def test_a_message_on_its_way_is_not_idle(direct: bool) -> None:
    with scene(direct=direct, idle_timeout=10) as stage:
        link = stage.link()
        message = text("a long message")
        link.receive(message[:7])
        for byte in message[7:]:
            pass_time(stage, 9)
            link.receive(bytes([byte]))
        assert link.connection.is_open()


def test_who_waits_for_an_answer_is_not_idle(direct: bool) -> None:
    with scene(direct=direct, idle_timeout=10) as stage:
        release = asyncio.Event()

        async def received(conn: Any, message: str) -> None:
            await release.wait()

        stage.hub.on_message = received
        link = stage.link()
        link.receive(text("a question"))
        pass_time(stage, 100)
        assert link.connection.is_open()
        release.set()
        stage.end_turn(3)
        pass_time(stage, 20 + LATE)
        assert not link.connection.is_open()


# --- The end


def test_close_waits_for_close_timeout_instead(beating: Scene) -> None:
    link = beating.link()
    pass_time(beating, INTERVAL + LATE)
    assert len(pings(link)) == 1
    link.connection.close(1000)
    assert [round(left) for left in beating.pending()] == [10]
    pass_time(beating, 10 + LATE)
    assert beating.seen(link) == [("close", 1006, "")]


def test_nothing_is_left_of_a_connection_that_is_gone(beating: Scene) -> None:
    link = beating.link()
    link.transport.end()
    beating.end_turn(2)
    assert beating.pending() == []
    pass_time(beating, 100)
    assert beating.seen(link) == [("close", 1006, "")]


def test_a_connection_that_is_closed_in_on_connect_has_no_heartbeat(direct: bool) -> None:
    with scene(direct=direct, ping_interval=INTERVAL, ping_timeout=TIMEOUT) as stage:
        stage.hub.on_connect = lambda conn: conn.close(4000)
        stage.link()
        assert [round(left) for left in stage.pending()] == [10]
