"""crest.cluster.minimal: the loop of an exchange."""

import socket
import threading
from typing import Any

import pytest

from crest.cluster.minimal import Loop
from crest.cluster.switch import Control
from crest.io.loop.poller import Poller


def test_one_timer_at_a_time_as_a_clock_has_it() -> None:
    loop: Any = Loop()
    poller = Poller(loop)
    fired: list[str] = []
    loop.call_later(0.001, lambda: fired.append("one"))
    loop.turn(poller)
    assert fired == ["one"]
    loop.call_later(0, lambda: fired.append("cancelled")).cancel()
    loop.turn(poller)
    loop.call_soon(lambda: fired.append("soon"))
    loop.call_later(3600, lambda: fired.append("never"))
    loop.turn(poller)
    assert fired == ["one", "soon"]
    poller.close()


def test_what_is_to_be_called_soon_is_called_after_a_failure_too() -> None:
    loop: Any = Loop()
    poller = Poller(loop)
    called: list[str] = []

    def fail() -> None:
        loop.call_soon(lambda: called.append("soon"))
        raise ZeroDivisionError

    one, other = socket.socketpair()
    with one, other:
        door = Control(poller, one.fileno(), fail)
        other.send(b"x")
        with pytest.raises(ZeroDivisionError):
            loop.turn(poller)
        assert called == ["soon"]
        door.fd = -1
        poller.close()


@pytest.mark.parametrize("dense", [0, 1 << 60])
def test_what_comes_often_is_waited_for_in_naps_until_nothing_comes(dense: int) -> None:
    loop: Any = Loop(dense)
    poller = Poller(loop)
    one, other = socket.socketpair()
    with one, other:
        heard: list[bytes] = []
        door = Control(poller, one.fileno(), lambda: heard.append(one.recv(1)))
        for _ in range(3):
            other.send(b"x")
            loop.turn(poller)
            assert loop.naps is bool(dense)
        if dense:
            loop.turn(poller)
            assert not loop.naps, "nothing has come"
        assert heard == [b"x"] * 3
        door.fd = -1
        poller.close()


def test_it_waits_for_as_long_as_it_takes() -> None:
    loop: Any = Loop()
    poller = Poller(loop)
    one, other = socket.socketpair()
    with one, other:
        heard: list[bytes] = []
        door = Control(poller, one.fileno(), lambda: heard.append(one.recv(10)))
        sending = threading.Thread(target=other.send, args=(b"1",))
        sending.start()
        loop.turn(poller)
        sending.join()
        assert heard == [b"1"]
        assert door.fd == one.fileno()
        door.fd = -1
        poller.close()
