"""crest.io.out.sender: how much of what waits is handed over at a time, where messages may be dropped or superseded."""

import socket
from typing import Any

import pytest
from support.link import Link, scene, stalled

AHEAD = 1000
SMALL = [f"{number} ".ljust(98, ".") for number in range(40)]
"""Frames of 100 bytes."""


def limited(**options: Any) -> Any:
    return scene(**{"on_backlog": "drop-oldest", "send_ahead": AHEAD, **options})


def sizes(link: Link) -> list[int]:
    """Bytes of each slice that the transport has got since the last call."""
    found = [len(each) for each in link.transport.writes]
    link.transport.writes.clear()
    return found


def test_a_transport_gets_slices() -> None:
    with limited() as stage:
        link = stage.link()
        sizes(link)
        for each in SMALL:
            assert link.connection.send(each)
        stage.end_turn()
        assert sizes(link) == [AHEAD] * 4
        assert link.taken() == SMALL


def test_a_frame_that_has_begun_is_handed_over_whole() -> None:
    """A peer that has a part of it must get the rest: nothing is won by less."""
    with limited() as stage:
        link = stalled(stage, "x" * 80_000)
        assert sizes(link)[-1] == 1 << 16
        for each in SMALL:
            assert link.connection.send(each)
        link.transport.writable()
        assert sizes(link) == [80_010 - (1 << 16)] + [AHEAD] * 4
        link.read()
        assert link.texts() == ["x" * 80_000, *SMALL]


def test_without_a_limit_a_transport_gets_all_at_once() -> None:
    with scene() as stage:
        link = stage.link()
        sizes(link)
        for each in SMALL:
            assert link.connection.send(each)
        stage.end_turn()
        assert sizes(link) == [4000]


@pytest.mark.skipif(not hasattr(socket, "SOCK_SEQPACKET"), reason="there is no socket that keeps apart what was sent")
@pytest.mark.parametrize("send_ahead", [AHEAD, None])
def test_so_does_the_kernel(send_ahead: int | None) -> None:
    """Of a Unix socket here, which has no limit of its own to set: that is no error."""
    with limited(direct=True, send_ahead=send_ahead) as stage:
        link = stage.link(kind=socket.SOCK_SEQPACKET)
        for each in SMALL:
            assert link.connection.send(each)
        stage.end_turn()
        assert list(map(len, link.read())) == [1000 if send_ahead else 4000] * (4 if send_ahead else 1)
        assert link.connection.send("x" * 20_000)
        stage.end_turn()
        assert list(map(len, link.read())) == [20_004]
        assert link.texts() == [*SMALL, "x" * 20_000]


@pytest.mark.parametrize("direct", [True, False])
def test_values_that_lag_are_given_few_at_a_time(direct: bool) -> None:
    """What is not given yet may be superseded."""
    keys = range(2000)
    with limited(on_backlog="latest", direct=direct) as stage:
        link = stalled(stage)
        for key in keys:
            stage.hub.broadcast(f"old {key} ".ljust(98, "."), key)
        stage.end_turn()
        while b"old" not in link.stream:
            link.transport.writable(4000)
            link.read(4000)
        for key in keys:
            stage.hub.broadcast(f"new {key} ".ljust(98, "."), key)
        stage.end_turn()
        first, *got = link.taken()
        assert first == "x" * 80_000
        assert 0 < sum(each.startswith("old") for each in got) < 200
        assert [each for each in got if each.startswith("new")] == [f"new {key} ".ljust(98, ".") for key in keys]
