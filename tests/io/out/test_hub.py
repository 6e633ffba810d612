"""crest.io.out.hub: the handlers and limits of one server, and its broadcasts."""

import threading

import pytest
from support.client import BINARY, TEXT, Frame
from support.link import Scene, scene
from support.loop import Loop

from crest.io.loop.turn import Turn
from crest.io.out.hub import POLICIES, Hub
from crest.io.out.relay import Relay


def hub(**changed: object) -> Hub:
    sizes = {"max_message_size": 1, "max_fragments": 2, "max_backlog": 3, "max_queue": 4}
    return Hub(**{"on_backlog": "drop-newest", "close_timeout": 0.5, "fanout_slice": 0.25, **sizes, **changed})


def test_limits_are_told() -> None:
    made = hub()
    assert (made.max_message_size, made.max_fragments, made.max_backlog) == (1, 2, 3)
    assert (made.on_backlog, made.max_queue, made.close_timeout) == ("drop-newest", 4, 0.5)


@pytest.mark.parametrize("name", ["max_message_size", "max_fragments", "max_backlog", "max_queue"])
def test_limits_that_are_none(name: str) -> None:
    with pytest.raises((TypeError, OverflowError)):
        hub(**{name: None})
    with pytest.raises((TypeError, OverflowError)):
        hub(**{name: -1})


@pytest.mark.parametrize("policy", POLICIES)
def test_what_the_system_may_take_ahead_is_by_the_policy(policy: str) -> None:
    anything = (1 << 32) - 1
    assert hub(on_backlog=policy).send_ahead == (anything if policy == "close" else 4096)
    assert hub(on_backlog=policy, send_ahead=5).send_ahead == 5


def test_no_handler_is_registered_at_first() -> None:
    made = hub()
    assert [made.on_connect, made.on_message, made.on_binary, made.on_close, made.on_error] == [None] * 5


def test_a_hub_that_no_loop_serves() -> None:
    made = hub()
    assert made.connections() == []
    assert made.connection_count() == 0
    made.broadcast("x")
    made.broadcast_binary(b"x")
    with pytest.raises(TypeError, match=r"broadcast\(\) takes str, not bytes; broadcast_binary\(\) takes bytes"):
        made.broadcast(b"x")
    with pytest.raises(TypeError, match=r"broadcast_binary\(\) takes a bytes-like object, not str; broadcast\(\) "):
        made.broadcast_binary("x")
    with pytest.raises(UnicodeEncodeError):
        made.broadcast("\ud800")
    for call in (made.broadcast, made.broadcast_binary):
        with pytest.raises(TypeError):
            call(None)


def test_a_hub_is_served_again() -> None:
    loop = Loop()
    try:
        made = hub()
        made.open(Turn(loop))
        assert (made.connections(), made.connection_count()) == ([], 0)
        made.close()
        made.close()
        assert made.connections() == []
        made.open(Turn(loop))
        assert made.connection_count() == 0
        with pytest.raises(TypeError):
            made.open(None)
    finally:
        loop.close()


def test_connections_is_a_new_list(stage: Scene) -> None:
    links = [stage.link() for _ in range(3)]
    found = stage.hub.connections()
    assert found == [link.connection for link in links]
    found.clear()
    assert stage.hub.connection_count() == 3
    links[1].connection.close()
    assert stage.hub.connections() == [links[0].connection, links[2].connection]


def test_broadcasts_of_both_kinds(stage: Scene) -> None:
    link = stage.link()
    stage.hub.broadcast("tëxt")
    stage.hub.broadcast_binary(memoryview(b"abcd")[::2])
    stage.hub.broadcast("")
    stage.end_turn()
    link.read_all()
    assert link.frames() == [Frame(TEXT, "tëxt".encode()), Frame(BINARY, b"ac"), Frame(TEXT, b"")]


@pytest.mark.parametrize("size", [10, 100_000, 300_000])
def test_a_buffer_may_be_changed_when_the_call_returns(stage: Scene, size: int) -> None:
    link = stage.link()
    data = bytearray(b"a" * size)
    stage.hub.broadcast_binary(data)
    data[:] = b"b" * size
    stage.end_turn()
    link.read_all()
    assert link.frames() == [Frame(BINARY, b"a" * size)]


def test_a_wrong_type_leaves_nothing_behind(stage: Scene) -> None:
    link = stage.link()
    for call, wrong in ((stage.hub.broadcast, "\udfff"), (stage.hub.broadcast, b""), (stage.hub.broadcast_binary, "")):
        with pytest.raises((TypeError, UnicodeEncodeError)):
            call(wrong)
    stage.hub.broadcast("right")
    stage.end_turn()
    assert link.taken() == ["right"]


def test_threads_broadcast_in_their_order(stage: Scene) -> None:
    link = stage.link()
    data = bytearray(b"before")

    def work(name: str) -> None:
        for i in range(100):
            stage.hub.broadcast(f"{name} {i}")

    def work_binary() -> None:
        stage.hub.broadcast_binary(data)
        data[:] = b"after!"

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"] + [threading.Thread(target=work_binary)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(link.read())
    stage.end_turn(2)
    link.read_all()
    frames = link.frames()
    for name in "abc":
        own = [each.payload.decode() for each in frames if each.payload.startswith(name.encode() + b" ")]
        assert own == [f"{name} {i}" for i in range(100)]
    assert [each.payload for each in frames if each.opcode == BINARY] == [b"before"]


def test_a_thread_gets_type_errors_at_once() -> None:
    with scene() as stage:
        caught: list[BaseException] = []

        def work() -> None:
            try:
                stage.hub.broadcast(b"x")
            except TypeError as error:
                caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(caught) == 1


def test_no_loop_serves_it_any_more(stage: Scene) -> None:
    """An opening that was decided about for too long gets an error, and its connection nothing."""
    stage.hub.close()
    with pytest.raises(RuntimeError, match="no event loop serves this server any more"):
        stage.link()


def test_nor_a_variant_with_other_limits(stage: Scene) -> None:
    other = stage.hub.variant("few", {"max_queue": 1})
    stage.hub.close()
    stage.hub = other
    with pytest.raises(RuntimeError, match="no event loop serves this server any more"):
        stage.link()


# ---- Seams for other processes ---------------------------------------------------------------------------------------


class Recorder(Relay):
    """Notes what it is to relay."""

    def __init__(self) -> None:
        self.relayed_here: list[tuple[object, ...]] = []

    def relayed(self, *what: object) -> None:
        self.relayed_here.append(what)


def test_each_broadcast_is_relayed_once(stage: Scene) -> None:
    """With its payload as it was given, whether or not it could be sent at once, and whether or not anyone is here."""
    relay = stage.hub.relay = Recorder()
    stage.hub.broadcast("h\xe9", key="k")
    stage.hub.broadcast_binary(bytearray(b"\0"), compress=False, to="a")
    stage.hub.broadcast("only here", local=True)
    stage.link()
    thread = threading.Thread(target=stage.hub.broadcast, args=("later",))
    thread.start()
    thread.join()
    assert len(relay.relayed_here) == 2
    stage.end_turn(2)
    assert relay.relayed_here == [
        (TEXT, b"h\xc3\xa9", "k", True, None),
        (BINARY, b"\0", None, False, ("a",)),
        (TEXT, b"later", None, True, None),
    ]


def test_what_others_have_relayed_is_delivered_and_not_relayed_again(stage: Scene) -> None:
    relay = stage.hub.relay = Recorder()
    link = stage.link()
    stage.hub.deliver(TEXT, b"h\xc3\xa9")
    stage.hub.deliver(BINARY, b"\0")
    thread = threading.Thread(target=stage.hub.deliver, args=(TEXT, b"later"))
    thread.start()
    thread.join()
    stage.end_turn(2)
    link.read_all()
    assert [(each.opcode, each.payload) for each in link.frames()] == [
        (TEXT, b"h\xc3\xa9"),
        (BINARY, b"\0"),
        (TEXT, b"later"),
    ]
    assert relay.relayed_here == []
    stage.hub.close()
    stage.hub.deliver(TEXT, b"too late")
