"""What crest does in a case (`DOINGS`), and what other code does meanwhile (`SPARKS`), with a cast of clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peer import Peer
from support.client import BINARY, TEXT, close_frame, frame, request
from world import World

SMALL_BUFFER = 4096
"""SO_RCVBUF of a client that reads slowly."""


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


def join_all(cast: Cast) -> None:
    """All are in one room, and some of them in another one."""
    for i, peer in enumerate(cast.all()):
        cast.conn(peer).join("hall")
        if i % 2:
            cast.conn(peer).join("other")


def join_slow(cast: Cast) -> None:
    join_all(cast)
    fill_slow(cast)


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
doing("room", called(broadcasts(2, 300, to="hall")), join_all)
doing(
    "rooms",
    called(lambda cast: [broadcasts(2, 300, to=room)(cast) for room in ("hall", "other", ["hall", "other"])]),
    join_all,
)
doing("room-to-slow", called(broadcasts(3, 30_000, to="hall")), join_slow)
doing("room-state", called(broadcasts(3, 300, to="hall", key="k")), join_slow)
doing("room-turn", turns, lambda cast: [join_all(cast), broadcasts(3, 300)(cast), broadcasts(2, 300, to="other")(cast)])
doing("joins", called(join_all))
doing("parts", called(lambda cast: [cast.conn(peer).leave("hall") for peer in cast.all()]), join_all)
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
