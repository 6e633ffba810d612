"""crest.io.out.tally: what happens is counted once, for a server's variants and both its fan-outs together."""

from typing import Any

import pytest
from support.client import PING, PONG, close_frame, frame
from support.ledgers import ledgers
from support.link import SMALL_KERNEL, Scene, scene, text

from crest.io.out.tally import Tally


def counts(stage: Scene) -> dict[str, Any]:
    """The counts that are not 0."""
    return {name: count for name, count in stage.hub.tally.counts().items() if count}


def test_nothing_has_happened_yet() -> None:
    assert not any(Tally().counts().values())


def test_connections_are_counted_with_the_codes_of_their_ends(stage: Scene) -> None:
    first, second, third = (stage.link() for _ in range(3))
    first.receive(close_frame(4000, ""))
    second.receive(close_frame(1000, "done"))
    stage.end_turn(2)
    assert counts(stage)["opened"] == 3 and counts(stage)["closed"] == {1000: 1, 4000: 1}
    third.receive(frame(0x3, b""))
    stage.end_turn(2)
    assert sum(counts(stage)["closed"].values()) == 3 and 1002 in counts(stage)["closed"]


def test_what_comes_is_counted_in_messages_and_in_bytes_of_frames(stage: Scene) -> None:
    link = stage.link()
    whole = text("hello") + frame(PING, b"x") + frame(0x2, b"abc")
    for byte in whole:
        link.receive(bytes([byte]))
    assert counts(stage)["received"] == 2
    assert counts(stage)["received_bytes"] == len(whole)
    assert counts(stage)["sent_bytes"] == 2 + 1, "the pong"
    assert "sent" not in counts(stage)
    link.receive(frame(PONG, b"unasked"))
    assert counts(stage)["received"] == 2


@pytest.mark.parametrize("size", [5, 200, 100_000])
def test_what_is_sent_is_counted_once_accepted(stage: Scene, size: int) -> None:
    link = stage.link()
    before = counts(stage).get("sent_bytes", 0)
    for _ in range(3):
        link.connection.send("x" * size)
    stage.end_turn()
    header = 2 if size < 126 else 4 if size < 1 << 16 else 10
    assert counts(stage)["sent"] == 3
    assert counts(stage)["sent_bytes"] - before == 3 * (header + size)
    before = counts(stage)["sent_bytes"]
    link.connection.close(1000, "bye")
    assert not link.connection.send("x")
    assert counts(stage)["sent"] == 3
    assert counts(stage)["sent_bytes"] - before == 2 + 2 + 3, "the close frame"


def test_broadcasts_are_counted_once_and_deliveries_for_each_connection(stage: Scene) -> None:
    for _ in range(4):
        stage.link()
    stage.hub.broadcast("12345")
    stage.hub.broadcast_binary(b"1")
    stage.end_turn()
    found = counts(stage)
    assert (found["broadcasts"], found["deliveries"]) == (2, 8)
    assert found["sent_bytes"] == 4 * (2 + 5 + 2 + 1)


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest"])
def test_drops_are_counted_for_all_connections_together(direct: bool, policy: str) -> None:
    with scene(direct=direct, max_backlog=1000, on_backlog=policy) as stage:
        links = [stage.link(send_buffer=SMALL_KERNEL, room=1000) for _ in range(2)]
        for _ in range(200):
            stage.hub.broadcast("x" * 900)
            for link in links:
                link.connection.send("y" * 900)
            stage.end_turn()
        lost = sum(link.connection.dropped for link in links)
        assert lost == counts(stage)["dropped"] > 100


def test_variants_count_with_the_server(stage: Scene) -> None:
    other = stage.hub.variant(("more",), {"max_message_size": 10})
    assert other.tally is stage.hub.tally


def test_counts_outlive_the_loop(stage: Scene) -> None:
    stage.link()
    stage.hub.close()
    assert counts(stage)["opened"] == 1


def test_connections_that_are_open_are_known_in_other_processes(stage: Scene) -> None:
    one, two = ledgers(2)
    stage.hub.tally.share(one, "connections of /")
    other = Tally()
    assert other.open_elsewhere() == 0
    other.share(two, "connections of /")
    first, second = stage.link(), stage.link()
    assert (other.open_elsewhere(), stage.hub.tally.open_elsewhere()) == (2, 0)
    first.receive(close_frame(1000, ""))
    stage.end_turn(2)
    assert other.open_elsewhere() == 1
    second.transport.abort()
    stage.end_turn(3)
    assert other.open_elsewhere() == 0
