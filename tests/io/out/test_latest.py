"""crest.io.out.latest: who keeps up gets every message, who lags the newest of each key."""

import gc
import random
import tracemalloc
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.client import CLOSE, TEXT, close_frame
from support.compressing import Compressing, agreement
from support.link import SMALL_KERNEL, Link, Scene, scene, stalled

from crest.wire.extensions import Deflate

LIMIT = 100_000
AT_ONCE = 1e-9
"""Seconds that are over at the first look at the clock."""


@pytest.fixture
def latest(direct: bool) -> Iterator[Scene]:
    with scene(direct=direct, max_backlog=LIMIT, on_backlog="latest") as made:
        yield made


def behind(link: Link) -> list[str]:
    """What came behind the message that had begun."""
    begun, *got = link.taken()
    assert begun == "x" * 80_000
    return got


def test_who_keeps_up_gets_everything(latest: Scene) -> None:
    link, other = latest.link(), stalled(latest)
    sent = [f"{i % 3} {i}" for i in range(1000)]
    for i, each in enumerate(sent):
        latest.hub.broadcast(each, each[0])
        if i % 7 == 0:
            latest.end_turn()
            link.read()
    latest.end_turn()
    assert link.taken() == sent
    assert link.connection.dropped == 0
    assert behind(other) == sent[-3:]


def test_who_lags_gets_the_newest_in_the_order_of_the_last_updates(latest: Scene) -> None:
    link = stalled(latest)
    for text in ("a 1", "b 1", "c 1", "a 2", "b 2", "a 3"):
        latest.hub.broadcast(text, text[0])
        latest.end_turn()
    latest.hub.broadcast_binary(b"b 3", "b")
    assert link.connection.dropped == 0
    latest.end_turn()
    link.read_all()
    assert [each.payload for each in link.frames()[1:]] == [b"c 1", b"a 3", b"b 3"]
    assert link.connection.dropped == 4
    assert link.connection.buffered == 0


def test_what_has_no_key_goes_first_and_is_never_superseded(latest: Scene) -> None:
    link = stalled(latest)
    for i in range(3):
        latest.hub.broadcast(f"key {i}", "key")
        latest.hub.broadcast(f"all {i}")
        link.connection.send(f"own {i}")
        if i % 2:
            latest.end_turn()
    latest.end_turn()
    assert behind(link) == ["all 0", "own 0", "all 1", "own 1", "all 2", "own 2", "key 2"]


def test_having_caught_up_it_gets_everything_again(latest: Scene) -> None:
    link = stalled(latest)
    for times in range(3):
        latest.hub.broadcast("a", "key")
        latest.hub.broadcast("b", "key")
        latest.end_turn()
        assert behind(link) == ["b"]
        latest.hub.broadcast("c", "key")
        latest.hub.broadcast("d", "key")
        latest.end_turn()
        assert link.taken() == ["c", "d"]
        assert link.connection.dropped == times + 1
        link.transport.room = 0
        link.connection.send("x" * 80_000)
        latest.end_turn()


def test_what_was_broadcast_before_it_lagged_or_joined_does_not_come_again(latest: Scene) -> None:
    first = stalled(latest)
    latest.hub.broadcast("old", "key")
    link = latest.link(send_buffer=SMALL_KERNEL)
    latest.hub.broadcast("seen", "another")
    latest.end_turn()
    assert link.taken() == ["seen"]
    link.transport.room = 0
    link.connection.send("x" * 80_000)
    latest.end_turn()
    latest.hub.broadcast("new", "third")
    latest.end_turn()
    assert behind(link) == ["new"]
    assert behind(first) == ["old", "seen", "new"]


def test_what_is_still_to_come_is_superseded_meanwhile(latest: Scene) -> None:
    """It catches up a bit at a time."""
    with scene(direct=latest.direct, max_backlog=10_000_000, on_backlog="latest") as stage:
        link = stalled(stage)
        for i in range(300):
            stage.hub.broadcast(f"{i} " + "o" * 2000, i)
        stage.end_turn()
        while link.connection.dropped == 0:
            link.read(10_000)
            link.transport.writable(10_000)
            for i in range(290, 300):
                stage.hub.broadcast(f"{i} new", i)
            stage.end_turn()
        got = [each.rstrip("o") for each in behind(link)]
        assert got[:290] == [f"{i} " for i in range(290)]
        assert set(got[290:]) == {f"{i} new" for i in range(290, 300)}


def test_a_broadcast_that_blocks_is_the_last_but_for_the_newest(latest: Scene) -> None:
    """A round's send ends in the middle of the log: what follows the frame that has begun is state too. A transport
    gets all of that round."""
    link = latest.link(send_buffer=SMALL_KERNEL, room=1)
    for i in range(120):
        latest.hub.broadcast(f"{i:01000}", "key")
    latest.end_turn()
    for i in range(120, 200):
        latest.hub.broadcast(f"{i:01000}", "key")
        latest.end_turn()
    got = [int(each) for each in link.taken()]
    assert got == sorted(set(got)) and got[-1] == 199
    assert len(got) < (120 if latest.direct else 122)
    assert len(got) + link.connection.dropped == 200


def test_broadcasts_to_who_lags_take_no_memory(latest: Scene) -> None:
    links = [stalled(latest) for _ in range(10)]
    latest.hub.broadcast("0" * 1000, 0)
    latest.end_turn()
    before = [link.connection.buffered for link in links]
    tracemalloc.start()
    try:
        for i in range(10_000):
            latest.hub.broadcast(f"{i:01000}", i % 10)
            if i % 10 == 0:
                latest.end_turn()
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
    latest.end_turn()
    assert [link.connection.buffered - size for link, size in zip(links, before, strict=True)] == [9 * 1004] * 10
    for link in links:
        assert behind(link) == [f"{i:01000}" for i in range(9990, 10_000)]


def test_what_each_lacks_is_the_newest_of_each_key_since_it_lags(latest: Scene) -> None:
    """Asked in between, more often than it changes."""
    rng = random.Random(5)
    lacked: dict[Link, dict[int, int]] = {}
    bases: dict[Link, int] = {}
    for i in range(600):
        if i % 60 == 0:
            link = stalled(latest)
            lacked[link], bases[link] = {}, link.connection.buffered
        key, size = rng.randrange(i // 6 + 1), rng.randrange(126, 400)
        latest.hub.broadcast("x" * size, key)
        for sizes in lacked.values():
            sizes[key] = size + 4
        latest.end_turn()
        if i == 500:
            leaving = next(iter(lacked))
            leaving.transport.abort()
            latest.end_turn(3)
            del lacked[leaving]
        if i % 3:
            for each, sizes in lacked.items():
                assert each.connection.buffered - bases[each] == sum(sizes.values())


def test_keys_of_nobody_who_lags_are_forgotten(latest: Scene) -> None:
    link = latest.link()
    tracemalloc.start()
    try:
        for i in range(10_000):
            latest.hub.broadcast(f"{i:01000}", i)
            latest.end_turn()
            link.read()
            link.stream.clear()
            link.transport.writes.clear()
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


# --- Bounds, ends


def test_when_the_last_one_goes_no_value_is_kept(latest: Scene) -> None:
    def values() -> int:
        gc.collect()  # other tests' garbage
        return sum(type(each).__name__ == "Value" for each in gc.get_objects())

    before = values()
    link = stalled(latest)
    latest.hub.broadcast("a 1", "a")
    latest.end_turn()
    latest.hub.broadcast("b 1", "b")
    assert values() == before + 2
    link.transport.end()
    latest.end_turn()
    assert values() == before


def test_what_has_no_key_is_bounded_by_closing(latest: Scene) -> None:
    link = stalled(latest)
    latest.hub.broadcast("state", "key")
    for i in range(200):
        latest.hub.broadcast(f"{i:01000}")
        latest.end_turn()
    latest.end_turn(2)
    assert [event[:2] for event in latest.seen(link)][1:] == [("close", 1013)]
    link.read_all()
    *texts, close = link.frames()
    assert close.code == 1013
    assert [each.payload for each in texts[1:]] == [b"%01000d" % i for i in range(len(texts) - 1)]


def test_what_is_lost_with_the_connection_counts_as_dropped(latest: Scene) -> None:
    """State that was passed by, superseded or not, and what was broadcast in the same turn, with a key or without."""
    link = stalled(latest)
    for text in ("a 1", "b 1", "a 2"):
        latest.hub.broadcast(text, text[0])
    latest.end_turn()
    for text in ("fits", "-" * LIMIT, "fitted", "-" * LIMIT):
        latest.hub.broadcast(text)
        latest.hub.broadcast("state", text[0])
    latest.end_turn(3)
    link.read_all()
    *texts, close = link.frames()
    assert [each.payload for each in texts[1:]] == [b"fits"] and close.code == 1013
    assert link.connection.dropped == 3 + 8 - 1


def test_who_lacks_more_values_than_may_wait_is_closed(latest: Scene) -> None:
    """Whoever began to lag later lacks fewer."""
    first, link = stalled(latest), latest.link()
    for i in range(60):
        latest.hub.broadcast(f"{i:01000}", i)
        latest.end_turn()
    second = stalled(latest)
    for i in range(60, 120):
        latest.hub.broadcast(f"{i:01000}", i)
        latest.end_turn()
    latest.end_turn(2)
    assert [event[:2] for event in latest.seen(first)][1:] == [("close", 1013)]
    assert first.connection.dropped == 100, "the rest was broadcast behind its close"
    assert "max_backlog is 100000 bytes" in latest.seen(first)[0][1]
    assert behind(second) == [f"{i:01000}" for i in range(60, 120)]
    assert link.taken() == [f"{i:01000}" for i in range(120)]
    assert latest.seen(second) == latest.seen(link) == []


@pytest.mark.parametrize("ending", ["close", "peer"])
def test_what_was_broadcast_before_the_close_still_goes_out(latest: Scene, ending: str) -> None:
    link = stalled(latest)
    latest.hub.broadcast("old", "key")
    latest.end_turn()
    latest.hub.broadcast("new", "key")
    if ending == "close":
        link.connection.close(4000)
    else:
        link.receive(close_frame(4000))
    latest.hub.broadcast("after", "key")
    latest.end_turn()
    link.read_all()
    *texts, close = link.frames()
    assert [each.payload for each in texts[1:]] == [b"new"] and close.code == 4000


def test_who_goes_away_leaves_nothing_behind(latest: Scene) -> None:
    link, other = stalled(latest), latest.link()
    latest.hub.broadcast("1", "key")
    latest.end_turn()
    link.transport.end()
    latest.end_turn(2)
    latest.hub.broadcast("2", "key")
    latest.end_turn()
    assert other.taken() == ["1", "2"]
    assert latest.hub.connections() == [other.connection]


def test_a_key_must_be_hashable(stage: Scene, latest: Scene) -> None:
    for each in (stage, latest):
        for call in (lambda hub=each.hub: hub.broadcast("x", []), lambda hub=each.hub: hub.broadcast_binary(b"x", {})):
            with pytest.raises(TypeError, match="unhashable"):
                call()


def test_a_key_that_can_not_be_compared_sends_nothing(latest: Scene) -> None:
    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

    link = latest.link()
    latest.hub.broadcast("one", Key())
    with pytest.raises(ZeroDivisionError):
        latest.hub.broadcast("two", Key())
    latest.hub.broadcast("three", "key")
    latest.end_turn()
    assert link.taken() == ["one", "three"]


def test_a_key_that_those_who_compress_can_not_compare_sends_nothing_either(direct: bool) -> None:
    class Key:
        armed = False

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if Key.armed:
                raise ZeroDivisionError
            return self is other

    first, key = Key(), Key()
    with closing(Compressing(direct, Deflate(), on_backlog="latest")) as stage:
        compressing = stalled(stage, agreed=agreement(stage.options))
        stage.hub.broadcast("first", first)
        plain = stalled(stage)
        stage.hub.broadcast("one", key)
        Key.armed = True
        with pytest.raises(ZeroDivisionError):
            stage.hub.broadcast("two", key)
        Key.armed = False
        stage.end_turn()
        stage.hub.broadcast("three", key)
        stage.end_turn()
        assert behind(plain) == ["three"]
        compressing.read_all()
        assert [each.payload for each in compressing.messages()[1:]] == [b"first", b"three"]
        assert [link.connection.dropped for link in (plain, compressing)] == [1, 1]
        assert [link.connection.buffered for link in (plain, compressing)] == [0, 0]


@pytest.mark.parametrize("policy", ["close", "drop-newest", "drop-oldest"])
def test_with_another_policy_a_key_means_nothing(direct: bool, policy: str) -> None:
    with scene(direct=direct, on_backlog=policy) as stage:
        link = stalled(stage)
        stage.hub.broadcast("1", "key")
        stage.hub.broadcast("2", "key")
        stage.end_turn()
        assert behind(link) == ["1", "2"]


# --- A model


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("fanout_slice", [1.0, AT_ONCE])
def test_anything_at_all(direct: bool, seed: int, fanout_slice: float) -> None:
    """What has no key arrives, in order; of what has, in order and once, the newest of each key does, and everything
    else arrives or is counted."""
    chance = random.Random(seed)
    plain: dict[Link, list[str]] = {}
    keyed: dict[Link, list[str]] = {}
    sizes = [0, 50, 2000, 9000, 30_000]
    limits = {"max_backlog": 1 << 30, "fanout_slice": fanout_slice, "close_timeout": 1e6}
    with scene(direct=direct, on_backlog="latest", **limits) as stage:
        for number in range(500):
            active = [link for link in plain if link.connection.is_open()]
            what = chance.random()
            if what < 0.05 or len(active) < 4:
                link = stage.link(send_buffer=SMALL_KERNEL, room=3000)
                plain[link], keyed[link] = [], []
            elif what < 0.07:
                chance.choice(active).connection.close(4000)
            elif what < 0.2:
                link = chance.choice(active)
                assert link.connection.send(f"own {number} " + "x" * chance.choice(sizes))
                plain[link].append(f"own {number}")
            elif what < 0.3:
                stage.hub.broadcast(f"all {number} " + "x" * chance.choice(sizes))
                for link in active:
                    plain[link].append(f"all {number}")
            elif what < 0.65:
                key = f"key{chance.randrange(8)}"
                stage.hub.broadcast(f"{key} {number} " + "x" * chance.choice(sizes), key)
                for link in active:
                    keyed[link].append(f"{key} {number}")
            elif what < 0.8:
                link = chance.choice(active)
                link.read(chance.choice([1, 5000, 100_000]))
                link.transport.writable(chance.choice([1, 5000, 100_000]))
            else:
                stage.end_turn()
        stage.end_turn(3 * len(plain))
        for link in plain:
            link.read_all()
            frames = link.frames()
            got = [each.payload.decode().rstrip("x ") for each in frames if each.opcode == TEXT]
            assert [each for each in got if not each.startswith("key")] == plain[link]
            values, left = [each for each in got if each.startswith("key")], iter(keyed[link])
            assert all(each in left for each in values), "in order, each once"
            newest = {each.split()[0]: each for each in keyed[link]}
            assert {each.split()[0]: each for each in values} == newest
            assert len(values) + link.connection.dropped == len(keyed[link])
            assert all(each.opcode != CLOSE for each in frames[:-1])
            if link.connection.is_open():
                assert link.connection.buffered == 0


@pytest.mark.parametrize("to", [None, "a", "own"])
def test_a_value_makes_way_for_the_one_that_supersedes_it(direct: bool, to: str | None) -> None:
    """Two of them would be too much for the backlog."""
    with scene(direct=direct, on_backlog="latest", max_backlog=1_000_000) as stage:
        link = stalled(stage)
        link.connection.join("a")
        values = [f"{i}" + "y" * 600_000 for i in range(3)]
        for value in values:
            if to == "own":
                assert link.connection.send(value, key="k")
            else:
                stage.hub.broadcast(value, key="k", to=to)
            stage.end_turn()
        assert link.connection.is_open()
        assert link.taken()[1:] == values[-1:]
        assert link.connection.dropped == 2
