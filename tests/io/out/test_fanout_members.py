"""crest.io.out.fanout: which members get what, while they join, close and break."""

import random

from support.client import CLOSE, TEXT, close_frame
from support.link import Link, Scene, scene, stalled, text


def test_who_joins_gets_what_comes_after(stage: Scene) -> None:
    first = stage.link()
    stage.hub.broadcast("1")
    second = stage.link()
    stage.hub.broadcast("2")
    third = stage.link()
    third.connection.send("own")
    stage.hub.broadcast("3")
    stage.end_turn()
    fourth = stage.link()
    stage.end_turn()
    assert first.taken() == ["1", "2", "3"]
    assert second.taken() == ["2", "3"]
    assert third.taken() == ["own", "3"]
    assert fourth.taken() == []


def test_who_closes_gets_what_came_before(stage: Scene) -> None:
    link, other = stage.link(), stage.link()
    stage.hub.broadcast("1")
    link.connection.close(4000)
    stage.hub.broadcast("2")
    stage.end_turn()
    link.read_all()
    frames = link.frames()
    assert [(each.opcode, each.payload) for each in frames] == [(TEXT, b"1"), (CLOSE, b"\x0f\xa0")]
    assert other.taken() == ["1", "2"]


def test_members_are_those_that_are_open(stage: Scene) -> None:
    chance = random.Random(1)
    links = [stage.link() for _ in range(50)]
    open_links = links.copy()
    wanted: dict[Link, list[str]] = {link: [] for link in links}
    for step in range(200):
        if open_links and chance.random() < 0.2:
            leaving = open_links.pop(chance.randrange(len(open_links)))
            ending = chance.choice(["close", "peer", "lost"])
            if ending == "close":
                leaving.connection.close()
            elif ending == "peer":
                leaving.receive(close_frame(1000))
            else:
                stage.end_turn()
                leaving.read_all()
                leaving.transport.end()
                stage.end_turn()
        elif chance.random() < 0.2:
            joining = stage.link()
            links.append(joining)
            open_links.append(joining)
            wanted[joining] = []
        else:
            stage.hub.broadcast(str(step))
            for link in open_links:
                wanted[link].append(str(step))
        if chance.random() < 0.3:
            stage.end_turn()
        assert set(stage.hub.connections()) == {link.connection for link in open_links}
        assert stage.hub.connection_count() == len(open_links)
    stage.end_turn()
    for link in links:
        link.read_all()
        assert [each.payload.decode() for each in link.frames() if each.opcode == TEXT] == wanted[link]


def test_overflows_during_a_fan_out_take_nothing_from_others(direct: bool) -> None:
    """Members leave while it runs: nobody is skipped, nobody gets it twice."""
    with scene(direct=direct, max_backlog=100_000) as stage:
        links = [stalled(stage) if i % 3 else stage.link() for i in range(60)]
        stage.hub.broadcast("a" * 50_000)
        stage.hub.broadcast("b")
        stage.end_turn()
        quick = [link for i, link in enumerate(links) if i % 3 == 0]
        assert stage.hub.connection_count() == len(quick)
        stage.hub.broadcast("c")
        stage.end_turn(3)
        for link in links:
            if link in quick:
                assert link.taken() == ["a" * 50_000, "b", "c"]
                assert stage.seen(link) == []
            else:
                assert [event[:2] for event in stage.seen(link)][1:] == [("close", 1013)]


def test_on_close_broadcasts(direct: bool) -> None:
    """Each of many that close at once tells the others."""
    with scene(direct=direct, max_backlog=100_000) as stage:
        gone: list[Link] = []

        def closed(conn: object, code: int, reason: str) -> None:
            gone.append(conn.link)  # type: ignore[attr-defined]
            stage.hub.broadcast(f"gone {len(gone)}")

        stage.hub.on_close = closed
        quick = [stage.link() for _ in range(3)]
        slow = [stalled(stage) for _ in range(5)]
        for link in (quick[0], *slow[:2]):
            link.receive(close_frame(1000))
        stage.hub.broadcast("x" * 60_000)
        stage.end_turn(4)
        assert set(gone) == {quick[0], *slow}
        assert quick[1].taken() == ["gone 1", "gone 2", "gone 3", "x" * 60_000, "gone 4", "gone 5", "gone 6"]


def test_a_handler_closes_others(stage: Scene) -> None:
    links = [stage.link() for _ in range(10)]

    def answer(conn: object, message: str) -> None:
        stage.hub.broadcast("before")
        for other in stage.hub.connections():
            if other is not conn:
                other.close(4000)
        stage.hub.broadcast("after")

    stage.hub.on_message = answer
    links[4].receive(text("go"))
    stage.end_turn()
    for link in links:
        link.read_all()
        texts = [each.payload for each in link.frames() if each.opcode == TEXT]
        assert texts == ([b"before", b"after"] if link is links[4] else [b"before"])


def test_broken_members_take_nothing_from_others() -> None:
    with scene(direct=True) as stage:
        links = [stage.link() for _ in range(9)]
        for link in links[::2]:
            link.peer.close()
        stage.hub.broadcast("x")
        stage.end_turn()
        assert stage.hub.connections() == [link.connection for link in links[1::2]] or set(stage.hub.connections()) == {
            link.connection for link in links[1::2]
        }
        stage.hub.broadcast("y")
        stage.end_turn()
        for link in links[1::2]:
            assert link.taken() == ["x", "y"]
