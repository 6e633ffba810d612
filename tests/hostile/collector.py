"""Other code runs within crest's: finalizers by the collector, signal handlers, log handlers; and it sends and closes.

A case is one thing that crest does (`Doing`) and one that other code does meanwhile (`Spark`), at one place: at the
allocation at which the collector runs, or at the call or return of Python code at which a signal may be handled.
Then each client has what the model says. In a storm, many of both follow each other at random.
"""

from __future__ import annotations

import gc
import logging
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from allocator import Allocator
from peer import Peer
from scenarios import SCENARIOS, Suite
from support.certificates import Pair
from support.client import BINARY, TEXT, close_frame, frame, request
from world import Stuck, World

SMALL_BUFFER = 4096
"""SO_RCVBUF of a client that reads slowly."""

LEAST = 2
"""Of the rest of a cast, without a crowd."""


@dataclass
class Cast:
    """The clients of one case.

    Attributes:
        a: The case is about this one.
        b: Another one.
        slow: It reads slowly.
        idle: It gets nothing unless other code sends it.
        rest: More of them, a crowd in some scenarios.
    """

    world: World
    a: Peer
    b: Peer
    slow: Peer
    idle: Peer
    rest: list[Peer] = field(default_factory=list)

    def conn(self, peer: Peer) -> Any:
        return self.world.connections[peer.name]

    def all(self) -> list[Peer]:
        return [self.a, self.b, self.slow, *self.rest, self.idle]


Act = Callable[[Cast], Any]
DOINGS: dict[str, tuple[Act, Act]] = {}
"""By name: what is prepared, and what is done while other code may run."""

SPARKS: dict[str, Act] = {}


def nothing(cast: Cast) -> None:
    pass


def doing(name: str, act: Act, before: Act = nothing) -> None:
    DOINGS[name] = before, act


def called(method: Callable[[Cast], Any]) -> Act:
    """A call of the application's, outside of any event."""

    def act(cast: Cast) -> None:
        assert cast.world.through is not None
        cast.world.through(method, cast)

    return act


def said(text: str) -> Act:
    """A message of the client's, and the turns that it takes."""

    def act(cast: Cast) -> None:
        cast.a.say(text)
        cast.world.turn(4)

    return act


def send(size: int, to: str = "a", **options: Any) -> Act:
    return lambda cast: cast.world.send(cast.conn(getattr(cast, to)), size, **options)


def fill_arena(cast: Cast) -> None:
    """Nearly all of what one turn's small frames share is used, and no connection has so much that it is sent."""
    for peer in cast.all()[:5]:
        for _ in range(12):
            cast.world.send(cast.conn(peer), 4000)


def fill_slow(cast: Cast) -> None:
    """The slow client has more waiting than the kernel takes."""
    cast.slow.reading = False
    for _ in range(40):
        cast.world.send(cast.conn(cast.slow), 30_000)
    cast.world.turn(2)


def read_on(cast: Cast) -> None:
    cast.slow.reading = True
    cast.world.turn(12)


def newcomer(cast: Cast) -> None:
    peer = cast.world.peer()
    cast.rest.append(peer)
    cast.world.upgrade(peer, frame(TEXT, "echo"))
    cast.world.turn(6)


def page(cast: Cast) -> None:
    peer = cast.world.peer()
    peer.send(request("/page"))
    cast.world.turn(4)
    cast.world.leave(peer)
    cast.world.turn(2)


def close_all(cast: Cast) -> None:
    for peer in cast.all():
        if peer.name in cast.world.connections:
            cast.world.close(cast.conn(peer))


def end_of(peer: str, how: Callable[[Peer], None]) -> Act:
    def act(cast: Cast) -> None:
        how(getattr(cast, peer))
        cast.world.turn(5)

    return act


def turns(cast: Cast) -> None:
    cast.world.turn(2)


def broadcasts(count: int, size: int, **options: Any) -> Act:
    def act(cast: Cast) -> None:
        for _ in range(count):
            cast.world.broadcast(size, **options)

    return act


for size in (20, 4000, 70_000):
    doing(f"send-{size}", called(send(size)))
doing("send-binary", called(send(9000, binary=True)))
doing("send-full-arena", called(lambda cast: [send(4000)(cast) for _ in range(8)]), fill_arena)
doing("send-to-slow", called(send(20_000, "slow")), fill_slow)
doing("broadcast", called(broadcasts(1, 300)))
doing("broadcast-to-slow", called(broadcasts(3, 30_000)), fill_slow)
doing("broadcast-much", called(broadcasts(1, 300_000)))
doing("broadcast-state", called(broadcasts(3, 300, key="k")), fill_slow)
doing("ping", called(lambda cast: cast.conn(cast.a).ping()))
doing("close", called(lambda cast: cast.world.close(cast.conn(cast.a), 4000, "so long")))
doing("close-slow", called(lambda cast: cast.world.close(cast.conn(cast.slow))), fill_slow)
doing("look", called(lambda cast: cast.world.look(cast.conn(cast.a))))
doing("turn", turns, lambda cast: [fill_arena(cast), broadcasts(3, 300)(cast)])
doing("turn-much", turns, lambda cast: [broadcasts(4, 9000)(cast), send(30_000, "b")(cast), broadcasts(2, 20)(cast)])
doing("read-on", read_on, fill_slow)
for text in ("echo", "large", "broadcast", "burst", "close", "raise"):
    doing(f"says-{text}", said(text))
doing("says-in-fragments", lambda cast: [cast.a.fragments("broadcast"), cast.world.turn(4)])
doing("says-binary", lambda cast: [cast.a.send(frame(BINARY, b"x" * 300)), cast.world.turn(4)])
doing("leaves", end_of("a", lambda peer: peer.send(close_frame(1001, "gone"))))
doing("breaks-rules", end_of("a", lambda peer: peer.send(frame(3, b"x"))))
doing("vanishes", end_of("a", Peer.reset))
doing("slow-vanishes", end_of("slow", Peer.reset), fill_slow)
doing("newcomer", newcomer)
doing("page", page)

SPARKS["send"] = send(25)
SPARKS["send-large"] = send(80_000)
SPARKS["send-to-b"] = send(5000, "b")
SPARKS["send-to-slow"] = send(40_000, "slow")
SPARKS["send-to-idle"] = lambda cast: cast.world.send(cast.conn(cast.idle), 4000)
SPARKS["broadcast"] = broadcasts(2, 200)
SPARKS["broadcast-much"] = broadcasts(1, 280_000)
SPARKS["close"] = lambda cast: cast.world.close(cast.conn(cast.a), 4001, "by other code")
SPARKS["close-b"] = lambda cast: cast.world.close(cast.conn(cast.b))
SPARKS["close-all"] = close_all
SPARKS["ping"] = lambda cast: [cast.conn(peer).ping() for peer in cast.all() if peer.name in cast.world.connections]
SPARKS["many"] = lambda cast: [send(3000)(cast), broadcasts(1, 3000)(cast), send(3000, "b")(cast), send(20)(cast)]
SPARKS["send-and-close"] = lambda cast: [send(200)(cast), cast.world.close(cast.conn(cast.a)), send(200)(cast)]

CROWDED = "broadcast", "broadcast-to-slow", "broadcast-much", "turn"
"""What is done with a crowd of clients."""

WHERE = {
    "gc": (
        "crew",
        "plain",
        "tls",
        "loop",
        "deflate",
        "takeover",
        "async",
        "latest",
        "drop-oldest",
        "uvloop",
        "small-backlog",
    ),
    "call": ("plain", "tls", "loop", "deflate", "async", "small-backlog"),
}
"""Where other code runs, the collector's or a signal handler's, and in which scenarios."""

PLACES = 10_000
"""A case's number is its place, and this times the number of its spark."""


def suites() -> Iterator[Suite]:
    """Of each, the cases are one for each spark and each place that there is."""
    for place, scenarios in WHERE.items():
        for scenario in scenarios:
            for each in DOINGS:
                if scenario != "crew" or each in CROWDED:
                    yield Suite(scenario, place, each)


# ---- Where other code runs -------------------------------------------------------------------------------------------


class Collector:
    """The garbage collector has finalizers run, once, after so many allocations.

    Attributes:
        fired: How often.
    """

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self.through, self.pause, self.resume = allocator.run, allocator.pause, allocator.resume
        self.fired = self._last = 0
        self._armed = self._clearing = False
        self._spark: Callable[[], Any] = int
        gc.set_threshold(1, 1 << 30, 1 << 30)
        gc.freeze()

    def arm(self, after: int, spark: Callable[[], Any]) -> None:
        gc.disable()
        self.fired, self._last, self._spark = 0, after, spark
        self._armed = True
        self._allocator.prepare(self._prepare)
        self._allocator.fail(-1, 0)
        self._allocator.collect(after)

    def again(self, after: int) -> None:
        """Once more, after so many allocations."""
        self._allocator.pause()
        Bomb(self)
        self._allocator.resume()
        self._allocator.collect(after)

    def _prepare(self, step: int) -> None:
        self._clearing = step == 0
        if step == 1 and self._armed:
            Bomb(self)

    def go_off(self) -> None:
        if self._armed and not self._clearing:
            self._allocator.collected()
            self.fired += 1
            self._spark()

    def disarm(self) -> bool:
        """Stop. True if crest makes fewer allocations than were to be counted."""
        self._armed = False
        self._allocator.prepare(None)
        count = self._allocator.counts()[0]
        self._allocator.collect(-1)
        return self.fired == 0 and count <= self._last


class Bomb:
    """Garbage with a finalizer."""

    def __init__(self, collector: Collector) -> None:
        self.own, self.collector = self, collector

    def __del__(self) -> None:
        self.collector.go_off()


class Calls:
    """Python code that crest calls, or is called by, is interrupted once, after so many calls and returns."""

    def __init__(self) -> None:
        self.fired = self.left = 0
        self.armed = self.within = 0

    def arm(self, after: int, spark: Callable[[], Any]) -> None:
        self.fired, self.left, self.spark = 0, after, spark
        self.armed = 1

    def through(self, callback: Callable[..., Any], *args: Any) -> Any:
        self.within += 1
        sys.setprofile(self._profile)
        try:
            return callback(*args)
        finally:
            self.within -= 1
            if not self.within:
                sys.setprofile(None)

    def _profile(self, *_: Any) -> None:
        if self.armed:
            self.left -= 1
            if self.left < 0:
                self.armed = 0
                self.fired += 1
                self.spark()

    def pause(self) -> None:
        self.paused = self.armed
        self.armed = 0

    def resume(self) -> None:
        if self.left >= 0 and not self.fired:
            self.armed = 1

    def disarm(self) -> bool:
        past = self.left >= 0
        self.armed, self.left = 0, -1
        return past


# ---- Cases -----------------------------------------------------------------------------------------------------------


def spark_of(name: str, cast: Cast) -> Callable[[], Any]:
    def go() -> None:
        try:
            SPARKS[name](cast)
        except BaseException as error:
            cast.world.faults.append(f"the other code got {error!r}")
            raise

    return go


def run(
    suite: Suite, allocator: Allocator, pair: Pair, folder: str, first: int, step: int
) -> Iterator[tuple[str, list[str] | None]]:
    """Run the cases from one on, one for each place."""
    where: Any = Collector(allocator) if suite.place == "gc" else Calls()
    world = World(SCENARIOS[suite.scenario], pair, through=where.through, pause=where.pause, resume=where.resume)
    before, act = DOINGS[suite.what]
    with world.serving(folder):
        number, sparks = first, list(SPARKS)
        while number // PLACES < len(sparks):
            yield str(number), None
            spark = sparks[number // PLACES]
            cast = cast_of(world)
            before(cast)
            where.arm(number % PLACES, spark_of(spark, cast))
            try:
                act(cast)
            finally:
                past = where.disarm()
            finish(world, cast)
            faults, world.faults = world.faults, []
            if where.fired or past or faults:
                yield str(number), [f"{spark}: {fault}" for fault in faults]
            number = (number // PLACES + 1) * PLACES + first % PLACES if past else number + step


def cast_of(world: World) -> Cast:
    peers = [world.peer(), world.peer(), world.peer(SMALL_BUFFER), world.peer()]
    cast = Cast(world, *peers, rest=[world.peer() for _ in range(LEAST + world.scenario.crowd)])
    for peer in cast.all():
        world.upgrade(peer)
    world.until(lambda: len(world.closed) == len(cast.all()), "clients that connect")
    return cast


def finish(world: World, cast: Cast) -> None:
    """Everything that was begun comes to its end, and each client has got what it must get."""
    for peer in cast.all():
        peer.reading = True
    for peer in cast.all()[: 3 + LEAST] + [cast.idle]:
        if not peer.over:
            try:
                world.sync(peer)
            except Stuck as error:
                world.faults.append(f"{peer.name} waits in vain for {error}")
    for peer in cast.rest:  # those that are being closed get what waits for them, and the close frame
        if peer.name in world.connections and not world.connections[peer.name].is_open():
            try:
                world.until(partial(lambda peer: peer.over or peer.close is not None, peer), f"the end of {peer.name}")
            except Stuck as error:
                world.faults.append(f"{peer.name} waits in vain for {error}")
    if world.scenario.crowd:  # a broadcast tells its clients that nothing more will come
        world.broadcast(0, tag="last")
        world.until(lambda: all(peer.over or peer.heard("last") for peer in cast.all()), "the last broadcast")
    world.faults += [f"ignored: {text}" for text in world.unraisable]
    world.unraisable.clear()
    for peer in cast.all():
        world.check(peer)
    for peer in cast.all():
        world.leave(peer)
    world.all_gone(0)
    world.forget([])


# ---- Storms ----------------------------------------------------------------------------------------------------------

STORM = ("plain", "tls", "unix", "loop", "uvloop", "deflate", "takeover", "tls-deflate", "async", "async-upgrade",
         "async-deflate", "upgrade", "watching", "small-backlog", "drop-newest", "drop-oldest", "latest", "total",
         "threads", "threads-tls")  # fmt: skip
STEPS = 40
SENT = 50
"""Rounds of a thread that sends."""


def storm_suites() -> Iterator[str]:
    return iter(STORM)


class Storm(logging.Handler):
    """Sparks at random: whenever the collector runs, and whenever something is logged."""

    def __init__(self, world: World, collector: Collector, chance: random.Random) -> None:
        super().__init__()
        self.world, self.collector, self.chance = world, collector, chance
        self.cast: Cast | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.spark()

    def next(self) -> None:
        """There will be a spark, soon."""
        self.collector.again(self.chance.choice([0, 1, 2, 5, 20, 100]))

    def spark_again(self) -> None:
        self.spark()
        if self.cast is not None:
            self.next()

    def spark(self) -> None:
        cast = self.cast
        if cast is None or self.world.record.depth() > 3:
            return
        name = self.chance.choice(list(SPARKS))
        if "close" in name and self.chance.random() < 0.9:
            name = "send"
        shuffled = Cast(self.world, *self.chance.sample([cast.a, cast.b, cast.slow, cast.idle], 4))
        if all(peer.name in self.world.connections for peer in shuffled.all()):
            SPARKS[name](shuffled)


def run_storm(
    name: str, allocator: Allocator, pair: Pair, folder: str, first: int, step: int
) -> Iterator[tuple[str, list[str] | None]]:
    """Run the storms of one scenario; the number of each is its seed. There is no end of them."""
    collector = Collector(allocator)
    world = World(SCENARIOS[name], pair, through=collector.through, pause=collector.pause, resume=collector.resume)
    logger = logging.getLogger("crest")
    logger.setLevel(logging.DEBUG)
    number = first
    with world.serving(folder):
        while True:
            yield str(number), None
            chance = random.Random(number)
            cast = cast_of(world)
            storm = Storm(world, collector, chance)
            logger.addHandler(storm)
            storm.cast = cast
            collector.arm(0, storm.spark_again)
            threads = [Sender(cast, number + place) for place in range(world.scenario.threads)]
            try:
                for _ in range(STEPS):
                    before, act = DOINGS[chance.choice(list(DOINGS))]
                    weather(cast, before)
                    weather(cast, act)
            finally:
                storm.cast = None
                collector.disarm()
                logger.removeHandler(storm)
                for thread in threads:
                    thread.stop()
            finish(world, cast)
            faults, world.faults = world.faults, []
            yield str(number), faults
            number += step


class Sender(threading.Thread):
    """Sends from a thread of its own, until it is stopped."""

    def __init__(self, cast: Cast, seed: int) -> None:
        super().__init__(daemon=True)
        self.cast, self.chance, self.stopped = cast, random.Random(seed), threading.Event()
        self.start()

    def run(self) -> None:
        world = self.cast.world
        for _ in range(SENT):
            if self.stopped.wait(0.001):
                break
            for conn in list(world.connections.values())[-4:]:
                size = self.chance.choice([20, 3000, 40_000])
                world.send(conn, size) if self.chance.random() < 0.8 else world.broadcast(size // 10)

    def stop(self) -> None:
        self.stopped.set()
        self.join()


def weather(cast: Cast, act: Act) -> None:
    """Do something with a full cast: new clients take the places of those that have left."""
    world = cast.world
    for name in ("a", "b", "slow", "idle"):
        peer = getattr(cast, name)
        if peer.over or peer.name not in world.connections or not world.connections[peer.name].is_open():
            cast.rest.append(peer)
            new = world.peer(SMALL_BUFFER if name == "slow" else None)
            world.upgrade(new)
            world.until(partial(lambda new: new.over or new.name in world.connections, new), "a client that connects")
            setattr(cast, name, new)
    if all(peer.name in world.connections for peer in (cast.a, cast.b, cast.slow, cast.idle)):
        act(cast)
