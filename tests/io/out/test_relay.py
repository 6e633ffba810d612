"""crest.io.out.relay: which keys can travel to other processes."""

import threading
from functools import partial

import pytest
from support.link import Scene

from crest.io.out.relay import Relay


class Recorder(Relay):
    """Notes the keys of what it is to relay."""

    def __init__(self) -> None:
        self.keys: list[object] = []

    def relayed(self, opcode: int, payload: bytes, key: object, compress: bool, to: object) -> None:
        self.keys.append(key)


def test_a_relay_of_no_kind_relays_nothing(stage: Scene) -> None:
    stage.hub.relay = Relay()
    with pytest.raises(NotImplementedError):
        stage.hub.broadcast("x")


def test_a_relay_of_no_kind_reaches_no_process(stage: Scene) -> None:
    stage.hub.relay = Relay()
    assert not stage.hub.relay.reaches("0123456789abcdef")
    assert not stage.hub.send_elsewhere("0123456789abcdef", 1, 1, "x", True)
    assert not stage.hub.relay.send_to("0123456789abcdef", 1, 1, b"x", True)


def test_keys_that_cannot_travel_are_refused_at_the_call(stage: Scene) -> None:
    """From another thread too, and before any connection has the message."""
    link = stage.link()
    stage.hub.broadcast("1", key=(1,))
    relay = stage.hub.relay = Recorder()
    stage.hub.broadcast("2", key=(1,), local=True)
    caught: list[BaseException] = []

    def work() -> None:
        for key, error in [((1,), TypeError), (1.5, TypeError), ("\ud800", UnicodeEncodeError)]:
            for broadcast in (partial(stage.hub.broadcast, "3"), partial(stage.hub.broadcast_binary, b"3")):
                with pytest.raises(error) as info:
                    broadcast(key=key)
                caught.append(info.value)

    work()
    assert "must be str, bytes or int, not tuple" in str(caught[0])
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(caught) == 12
    for key in ("k", b"k", 7, True, None):
        stage.hub.broadcast("4", key=key)
    stage.end_turn(2)
    assert relay.keys == ["k", b"k", 7, True, None]
    assert link.taken() == ["1", "2", *["4"] * 5]
