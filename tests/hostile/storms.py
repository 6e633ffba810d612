"""Storms: many of what crest and other code do follow each other at random, and threads send."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from functools import partial

from allocator import Allocator
from collector import Collector, cast_of, finish
from doings import DOINGS, SMALL_BUFFER, SPARKS, Act, Cast
from scenarios import SCENARIOS
from support.certificates import Pair
from world import World

STORM = ("plain", "tls", "unix", "loop", "uvloop", "deflate", "takeover", "tls-deflate", "async", "async-upgrade",
         "async-deflate", "upgrade", "watching", "small-backlog", "drop-newest", "drop-oldest", "latest", "total",
         "threads", "threads-tls")  # fmt: skip
STEPS = 40
SENT = 50
"""Rounds of a thread that sends."""


def suites() -> Iterator[str]:
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


def run(
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
