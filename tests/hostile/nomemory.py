"""Memory runs out: in the life of a connection, one allocation fails, or a few; in the next life, the one after it.

A case is one life. The client connects, shakes hands, has the application do a thing or two and leaves. Wherever crest
needs memory for that, an allocation fails once. Then all others are served as before, and nothing of the victim is
left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from allocator import Allocator
from peer import Peer
from scenarios import SCENARIOS
from support.certificates import Pair
from support.client import BINARY, close_frame, frame, request
from world import Stuck, World

Life = Callable[[World, Peer], None]

LIVES: dict[str, Life] = {}


def life(victim: Life) -> Life:
    """It is one of LIVES."""
    LIVES[victim.__name__.replace("_", "-")] = victim
    return victim


def says(*texts: str) -> Life:
    """One that shakes hands, sends these, and closes."""

    def victim(world: World, peer: Peer) -> None:
        world.upgrade(peer)
        for text in texts:
            if peer.over or not world.sync(peer):
                return
            peer.say(text)
        if not peer.over and world.sync(peer):
            peer.send(close_frame(1000, "bye"))
            world.until(lambda: peer.over, "the answer to a close frame")

    return victim


for name in (
    "echo",
    "large",
    "binary",
    "broadcast",
    "broadcast-binary",
    "uncompressed",
    "state",
    "ping",
    "close",
    "raise",
    "look",
):
    LIVES[name] = says(name)
LIVES["room"] = says("joins", "room", "rooms", "user", "state", "parts", "room")


@life
def visits(world: World, peer: Peer) -> None:
    """Connects and goes."""
    world.turn(3)


@life
def all_at_once(world: World, peer: Peer) -> None:
    """Sends its first messages, of every kind, with the opening handshake."""
    world.upgrade(peer, frame(1, "echo") + frame(BINARY, b"b" * 200))
    peer.fragments("broadcast")
    if world.sync(peer):
        peer.reset()


@life
def vanishes(world: World, peer: Peer) -> None:
    """Is reset with messages under way."""
    world.upgrade(peer)
    if world.sync(peer):
        peer.say("echo")
        peer.say("large")
        peer.reset()


@life
def breaks_off(world: World, peer: Peer) -> None:
    """Ends without a close frame, behind half a message."""
    world.upgrade(peer)
    if world.sync(peer):
        peer.send(frame(1, "e", fin=False))
        peer.end()


@life
def breaks_rules(world: World, peer: Peer) -> None:
    """Sends a frame that is none."""
    world.upgrade(peer)
    if world.sync(peer):
        peer.send(frame(3, b"x"))
        world.until(lambda: peer.over, "the close frame for a broken rule")


@life
def reads_slowly(world: World, peer: Peer) -> None:
    """Leaves so much unread that it waits at the server, then reads it all."""
    world.upgrade(peer)
    if not world.sync(peer):
        return
    peer.reading = False
    for text in ("burst", "burst", "flood", "state", "large"):
        peer.say(text)
        world.turn(3)
    peer.reading = True
    if world.sync(peer):
        peer.send(close_frame(1001))
        world.until(lambda: peer.over, "the answer to a close frame")


@life
def reads_nothing(world: World, peer: Peer) -> None:
    """Leaves, with much that it has not read."""
    world.upgrade(peer)
    if world.sync(peer):
        peer.reading = False
        for text in ("burst", "flood", "burst", "close"):
            peer.say(text)
            world.turn(3)
        peer.reset()


@life
def wants_pages(world: World, peer: Peer) -> None:
    """Asks for pages and files, then for what there is not."""
    for path in ("/page?a=b", "/slow", "/files/model.py", "/none"):
        before = len(peer.body)
        peer.send(request(path))
        world.until(lambda before=before: peer.ended or len(peer.body) > before, f"a response for {path}")  # type: ignore[misc]
        world.turn(3)
        if peer.ended:
            return


@life
def is_refused(world: World, peer: Peer) -> None:
    """Asks for an upgrade in the wrong way."""
    peer.send(request("/ws", {"Host": "x", "Upgrade": "websocket", "Connection": "Upgrade"}))
    world.until(lambda: bool(peer.head) or peer.ended, "a refusal")


HEADERS = "header", "header-tls", "header-loop-tls"
WHERE = {
    "wants-pages": ("plain", "tls", "loop", "uvloop-loop"),
    "is-refused": ("plain", "tls", "loop", "proxied", "header"),
    "visits": ("plain", "unix", "tls", "loop", "uvloop", "proxied", *HEADERS),
    "look": ("plain", "upgrade", "deflate", "proxied"),
}
"""Scenarios of lives that are not for all."""

REACHING = frozenset(
    ("broadcast", "broadcast-binary", "uncompressed", "state", "room", "all-at-once", "reads-slowly", "reads-nothing")
)
"""Lives in which something is sent to others."""

FOREIGN = {
    "selector_events.py:_force_close": "marks the transport as closing, and fails before connection_lost is scheduled",
}
"""Where asyncio itself, without memory, loses a connection for good: by file and function, and how."""

SPECIAL: dict[str, tuple[str, ...]] = {
    "crew": (),
    "threads": (),
    "threads-tls": (),
    "rates": ("all-at-once",),
    "proxied": ("echo",),
    "header": ("echo",),
    "header-tls": ("echo",),
    "header-loop-tls": (),
    "total": ("reads-slowly", "reads-nothing"),
}
"""Lives of scenarios that are not for all."""


class Suite(NamedTuple):
    """Cases that one process runs one after the other."""

    scenario: str
    life: str
    width: int

    def __str__(self) -> str:
        return f"{self.scenario}/{self.life}/{self.width}"


def suites() -> Iterator[Suite]:
    for scenario in SCENARIOS:
        for each in LIVES:
            if scenario in WHERE.get(each, SCENARIOS) and (
                each in SPECIAL.get(scenario, LIVES) or scenario in WHERE.get(each, ())
            ):
                for width in (1, 4):
                    yield Suite(scenario, each, width)


def run(
    suite: Suite, allocator: Allocator, pair: Pair, folder: str, first: int, step: int
) -> Iterator[tuple[str, list[str] | None]]:
    """Run the cases from one on; yields the name of each, first with no list of faults, as it begins, then with it."""
    scenario = SCENARIOS[suite.scenario]
    world = World(scenario, pair, through=allocator.run, pause=allocator.pause, resume=allocator.resume)
    victim = LIVES[suite.life]
    allocator.fail(-1, 0)
    with world.serving(folder):
        bystanders = [world.bystander(), world.bystander()]
        for _ in range(3):  # what is cached is there, from now on
            one_life(world, victim)
            heal(world, bystanders, False)
        number = first
        while True:
            yield str(number), None
            allocator.fail(number, suite.width)
            one_life(world, victim)
            failed = allocator.counts()[1]
            allocator.fail(-1, 0)
            heal(world, bystanders, suite.life in REACHING)
            faults, world.faults = world.faults, []
            yield str(number), faults
            if not failed:
                break
            number += step
        yield "end", None
        for peer in bystanders:
            world.leave(peer)
        world.all_gone(0)
    yield "end", world.faults


def foreign(suite: str, stack: str) -> str | None:
    """The place of FOREIGN at which an allocation failed, where crest uses transports of the loop."""
    if SCENARIOS[suite.partition("/")[0]].direct:
        return None
    places = [f"{Path(file).name}:{name}" for file, name in re.findall(r'File "(\S*)", line \d+ in (\S+)', stack)]
    return next((place for place in places if place in FOREIGN), None)


def one_life(world: World, victim: Life) -> None:
    peer = world.peer()
    try:
        victim(world, peer)
        world.turn(2)
    except Stuck as error:
        world.faults.append(f"the victim waits in vain for {error}")
    world.check(peer)
    world.leave(peer)


def heal(world: World, bystanders: list[Peer], reached: bool) -> None:
    """There is memory again: all but the victim are served, and nothing of that is left.

    Args:
        reached: The bystanders were to be sent something meanwhile.
    """
    for place, peer in enumerate(bystanders):
        try:
            served = world.sync(peer)
        except Stuck:
            served = False
        world.check(peer)
        if not served:
            # It may have been cut: what was encrypted, or given to the loop's transport, can not be taken back, so that
            # without memory in the middle of it the end must come. But it must not wait in vain.
            may_end = reached and (world.scenario.transport == "tls" or not world.scenario.direct)
            if not (peer.ended and may_end):
                world.faults.append(f"{peer.name}, not the victim, is served no more: {peer.close!r}, {peer.ended}")
            world.leave(peer)
            bystanders[place] = world.bystander()
    world.all_gone(len(bystanders))
    world.forget(bystanders)
