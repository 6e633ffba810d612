"""Objects that are not what they seem, in every argument, and as everything that handlers return or raise.

pretenders.py makes them. A case is one such object in one place.
Either it is refused, by TypeError, ValueError or what it raises itself, or it is taken for what it is. The server goes
on.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

from model import ALL
from peer import Peer
from pretenders import (
    BEHAVIOURS,
    CODES,
    KEYS,
    NUMBERS,
    Hook,
    Made,
    Spite,
    awaitables,
    buffer_objects,
    exceptions,
    text_objects,
)
from scenarios import SCENARIOS, TIMES, Suite
from support.certificates import Pair
from support.client import BINARY, TEXT, request
from world import Stuck, World

from crest import App, ConfigurationError, Deflate, Response, WebSocketServer

REFUSED = (TypeError, ValueError, Spite, NotImplementedError)
"""What may be raised for a bad argument; the last by memoryviews of many dimensions."""


# ---- Places ----------------------------------------------------------------------------------------------------------

Place = Callable[[World, Peer, Any], Any]


def calling(world: World, opcode: int, payload: bytes, call: Callable[[], Any], to: str) -> None:
    """Make a call that sends; what it does is on record."""
    is_open = frozenset(name for name, conn in world.connections.items() if conn.is_open())
    record = world.record.begin(to, opcode, payload, is_open if to == ALL else frozenset())
    try:
        result = call()
    except BaseException as error:
        world.record.end(record, error)
        if not isinstance(error, (*REFUSED, SystemExit)):
            world.faults.append(f"{call} raised {error!r}")
    else:
        world.record.end(record, result)


def content(value: Any) -> bytes:
    """What a hostile text or buffer truly has."""
    if isinstance(type(value), type) and issubclass(type(value), str):
        return str.encode(str.__str__(value), errors="replace")
    try:
        return memoryview(value).tobytes()
    except Exception:
        return b""


def send_text(world: World, peer: Peer, value: Any) -> None:
    conn = world.connections[peer.name]
    calling(world, TEXT, content(value), lambda: conn.send(value), peer.name)


def send_data(world: World, peer: Peer, value: Any) -> None:
    conn = world.connections[peer.name]
    calling(world, BINARY, content(value), lambda: conn.send_binary(value), peer.name)


def broadcast_text(world: World, peer: Peer, value: Any) -> None:
    calling(world, TEXT, content(value), lambda: world.ws.broadcast(value), ALL)


def broadcast_data(world: World, peer: Peer, value: Any) -> None:
    calling(world, BINARY, content(value), lambda: world.ws.broadcast_binary(value), ALL)


def broadcast_key(world: World, peer: Peer, value: Any) -> None:
    for _ in range(3):
        payload = world.record.payload(100)
        calling(world, TEXT, payload, lambda payload=payload: world.ws.broadcast(payload.decode(), key=value), ALL)  # type: ignore[misc]


def close_code(world: World, peer: Peer, value: Any) -> None:
    calling(world, 0, b"", lambda: world.connections[peer.name].close(value), peer.name)


def close_reason(world: World, peer: Peer, value: Any) -> None:
    calling(world, 0, b"", lambda: world.connections[peer.name].close(4000, value), peer.name)


def returned(world: World, peer: Peer, value: Any) -> None:
    world.hostile = lambda conn: value
    said(world, peer)


def raised(world: World, peer: Peer, value: Any) -> None:
    def handler(conn: Any) -> None:
        raise value

    world.hostile = handler
    said(world, peer)


def raised_async(world: World, peer: Peer, value: Any) -> None:
    async def handler(conn: Any) -> None:
        await asyncio.sleep(0)
        raise value

    world.hostile = handler
    said(world, peer)


def said(world: World, peer: Peer) -> None:
    peer.say("hostile")
    world.turn(6)


def of_upgrade(raises: bool) -> Place:
    def place(world: World, peer: Peer, value: Any) -> None:
        def upgrading(request: Any) -> Any:
            if raises:
                raise value
            return value

        world.ws.on_upgrade(upgrading)
        asking(world, lambda other: world.upgrade(other))
        world.ws._admission.on_upgrade = None

    return place


def of_page(raises: bool, *, later: bool = False) -> Place:
    def place(world: World, peer: Peer, value: Any) -> None:
        def page(request: Any) -> Any:
            if raises:
                raise value
            return value

        async def page_later(request: Any) -> Any:
            await asyncio.sleep(0)
            return page(request)

        world.app.get("/hostile")(page_later if later else page)
        asking(world, lambda other: other.send(request("/hostile")))
        del world.app._pages._handlers["/hostile"]

    return place


def asking(world: World, ask: Callable[[Peer], None]) -> None:
    other = world.peer()
    ask(other)
    try:
        world.until(lambda: bool(other.head) or other.ended, "a response")
    except Stuck as error:
        world.faults.append(f"a client waits in vain for {error}")
    world.leave(other)
    world.turn(3)


def as_response(world: World, peer: Peer, value: Any) -> None:
    for options in ({"body": value}, {"status": value}, {"headers": value}, {"headers": {"A": value}},
                    {"headers": [(value, "a")]}, {"content_type": value}):  # fmt: skip
        try:
            made = Response(**options)  # type: ignore[arg-type]
        except (*REFUSED, SystemExit):
            continue
        except BaseException as error:
            world.faults.append(f"Response({list(options)}) raised {error!r}")
            continue
        of_page(False)(world, peer, made)


SERVER_OPTIONS = list(WebSocketServer.__init__.__kwdefaults__ or ())
APP_OPTIONS = list(App.__init__.__kwdefaults__ or ())


def as_option(make: Callable[..., Any], names: list[str]) -> Place:
    """Refused, or taken; what is made with it is only let go."""

    def place(world: World, peer: Peer, value: Any) -> None:
        for name in names:
            try:
                made = make(**{name: value})
                repr(made)
            except (*REFUSED, SystemExit, OverflowError):
                continue
            except BaseException as error:
                world.faults.append(f"{make.__name__}({name}=) raised {error!r}")

    return place


def as_path(world: World, peer: Peer, value: Any) -> None:
    for call in (world.app.get, WebSocketServer, lambda path: world.app.static(path, "."),
                 lambda path: world.app.mount(path, WebSocketServer())):  # fmt: skip
        try:
            call(value)
        except (*REFUSED, SystemExit, ConfigurationError):  # the last: there is a server at that path
            continue
        except BaseException as error:
            world.faults.append(f"{call} raised {error!r}")


def as_handler(world: World, peer: Peer, value: Any) -> None:
    class Handler:
        def __call__(self, conn: Any, *args: Any) -> Any:
            world.ws.on_message(world.received)  # it is let go while it runs
            return value

        def __getattr__(self, name: str) -> Any:
            raise Spite(name)

        def __repr__(self) -> str:
            raise Spite("repr")

    world.ws.on_message(Handler())
    said(world, peer)
    world.ws.on_message(world.received)


PLACES: dict[str, tuple[Place, dict[str, Made] | None]] = {
    "send": (send_text, None),
    "send-binary": (send_data, None),
    "broadcast": (broadcast_text, None),
    "broadcast-binary": (broadcast_data, None),
    "key": (broadcast_key, KEYS),
    "code": (close_code, CODES),
    "reason": (close_reason, {**text_objects("reason"), **CODES}),
    "returned": (returned, awaitables()),
    "raised": (raised, exceptions()),
    "raised-async": (raised_async, exceptions()),
    "user": (of_upgrade(False), awaitables()),
    "upgrade-raises": (of_upgrade(True), exceptions()),
    "page": (of_page(False), {**awaitables(), **text_objects("page"), **buffer_objects(b"page")}),
    "page-later": (of_page(False, later=True), {**awaitables(), **text_objects("page"), **buffer_objects(b"page")}),
    "page-raises": (of_page(True), exceptions()),
    "page-raises-later": (of_page(True, later=True), exceptions()),
    "response": (as_response, {**NUMBERS, **text_objects("text/plain"), **buffer_objects(b"body")}),
    "handler": (as_handler, awaitables()),
    "server-option": (as_option(WebSocketServer, SERVER_OPTIONS), NUMBERS),
    "app-option": (as_option(App, APP_OPTIONS), NUMBERS),
    "deflate-option": (as_option(Deflate, list(Deflate.__dataclass_fields__)), NUMBERS),
    "path": (as_path, text_objects("/hostile")),
}
SENDING = ("send", "send-binary", "broadcast", "broadcast-binary", "key", "code", "reason", "returned", "raised")
WHERE = ("plain", "tls", "loop", "deflate", "latest", "drop-oldest", "async", "small-backlog")


def suites() -> Iterator[Suite]:
    for scenario in WHERE:
        for place in PLACES:
            if scenario == "plain" or place in SENDING:
                for behaviour in BEHAVIOURS:
                    yield Suite(scenario, place, behaviour)


def objects_for(world: World, place: str) -> dict[str, Made]:
    made = PLACES[place][1]
    if made is not None:
        return made
    payload = world.record.payload(150)
    return buffer_objects(payload) if "binary" in place else text_objects(payload.decode())


def run(suite: Suite, pair: Pair, folder: str, first: int, step: int) -> Iterator[tuple[str, list[str] | None]]:
    """Run the cases from one on: each object once for a client that reads, and once for one that does not."""
    world = World(SCENARIOS[suite.scenario], pair)
    place = PLACES[suite.place][0]
    world.actions["hostile"] = lambda conn: world.hostile(conn)
    with world.serving(folder):
        world.ws.on_message(lambda conn, text: world.hostile(conn) if text == "hostile" else world.received(conn, text))
        plain = world.ws._hub.on_message
        bystander = world.bystander()
        world.staying = {bystander.name}
        for number in range(first, 2 * len(objects_for(world, suite.place)), step):
            yield str(number), None
            names = list(objects_for(world, suite.place))
            name = names[number // 2]
            hook = Hook(world, suite.what)
            peer = world.peer(4096 if number % 2 else None)
            world.upgrade(peer)
            world.sync(peer)
            if number % 2:
                peer.reading = False
                for _ in range(30):
                    world.send(world.connections[peer.name], 20_000)
                world.turn(2)
            world.ws.on_message(plain)
            one_case(world, peer, place, objects_for(world, suite.place)[name], hook)
            hook.left = 0
            finish(world, peer, bystander)
            faults, world.faults = world.faults, []
            yield str(number), [f"{name}: {fault}" for fault in faults]


def one_case(world: World, peer: Peer, place: Place, make: Made, hook: Hook) -> None:
    try:
        place(world, peer, make(world, hook))
        gc.collect()
        world.turn(3)
    except Spite:
        pass
    except BaseException as error:
        world.faults.append(f"{error!r} has come through to the loop")


def finish(world: World, peer: Peer, bystander: Peer) -> None:
    peer.reading = True
    for each in (peer, bystander):
        try:
            if not each.over:
                world.sync(each)
        except Stuck as error:
            world.faults.append(f"{each.name} waits in vain for {error}")
        world.check(each)
    if bystander.over:
        world.faults.append(f"another client was closed: {bystander.close!r}")
    world.leave(peer)
    world.all_gone(1)
    world.forget([bystander])


__all__ = ["TIMES", "run", "suites"]
