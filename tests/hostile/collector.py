"""Other code runs within crest's: finalizers by the collector, signal handlers, log handlers; and it sends and closes.

A case is one thing that crest does (`Doing`) and one that other code does meanwhile (`Spark`), at one place: at the
allocation at which the collector runs, or at the call or return of Python code at which a signal may be handled.
Then each client has what the model says. In storms.py many of both follow each other at random.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from allocator import Allocator
from doings import DOINGS, SMALL_BUFFER, SPARKS, Cast
from scenarios import SCENARIOS, Suite
from support.certificates import Pair
from world import Stuck, World

LEAST = 2
"""Of the rest of a cast, without a crowd."""
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
