"""Objects that are not what they seem, in every argument, and as everything that handlers return or raise.

Whatever method of theirs crest calls, it sends, broadcasts, closes or raises. A case is one such object in one place.
Either it is refused, by TypeError, ValueError or what it raises itself, or it is taken for what it is. The server goes
on.
"""

from __future__ import annotations

import array
import asyncio
import ctypes
import enum
import gc
import mmap
import sys
from collections.abc import Callable, Iterator
from typing import Any

from model import ALL
from peer import Peer
from scenarios import SCENARIOS, TIMES, Suite
from support.certificates import Pair
from support.client import BINARY, TEXT, request
from world import Stuck, World

from crest import App, ConfigurationError, Deflate, Reject, Response, WebSocketServer

MOST = 12
"""How often one object does something; then its methods do what they should."""


class Spite(Exception):
    """What hostile objects raise."""


REFUSED = (TypeError, ValueError, Spite, NotImplementedError)
"""What may be raised for a bad argument; the last by memoryviews of many dimensions."""


class Hook:
    """What hostile methods do."""

    def __init__(self, world: World, behaviour: str) -> None:
        self.world, self.behaviour, self.left = world, behaviour, MOST
        self.busy = False

    def __call__(self, where: str) -> None:
        if self.left <= 0 or self.busy:
            return
        self.left -= 1
        self.busy = True  # what is done here meets the object's methods as well
        try:
            self._act(where)
        finally:
            self.busy = False

    def _act(self, where: str) -> None:
        names = [name for name, conn in self.world.connections.items() if conn.is_open()]
        if self.behaviour == "raise" and where != "__del__":
            raise Spite(where)
        if self.behaviour == "exit" and where != "__del__":
            raise SystemExit(where)
        if self.behaviour == "broadcast":
            self.world.broadcast(200)
        for name in names:
            if self.behaviour == "send":
                self.world.send(self.world.connections[name], 9000)
            elif self.behaviour == "close" and name not in self.world.staying:
                self.world.close(self.world.connections[name], 4002, where)


BEHAVIOURS = "send", "broadcast", "close", "raise", "exit"

NAMES = (
    "__str__ __repr__ __eq__ __ne__ __hash__ __len__ __getitem__ __iter__ __contains__ __format__ __sizeof__ __bool__ "
    "__index__ __int__ __float__ __lt__ __le__ __gt__ __ge__ __add__ __radd__ __sub__ __rsub__ __mul__ __truediv__ "
    "__bytes__ __buffer__ __and__ __rshift__ __lshift__ __ceil__ __round__ __fspath__ encode startswith endswith lower "
    "strip split partition items keys get isoformat bit_length hex tobytes __await__ __call__ __mod__ __floordiv__"
).split()


def hostile(base: type, hook: Hook) -> Any:
    """A subclass all of whose methods do something first, and that ends so, too."""

    def method(name: str) -> Callable[..., Any]:
        inherited = getattr(base, name)

        def hooked(self: Any, *args: Any, **options: Any) -> Any:
            hook(name)
            return inherited(self, *args, **options)

        return hooked

    body: dict[str, Any] = {name: method(name) for name in NAMES if callable(getattr(base, name, None))}
    body["__del__"] = lambda self: hook("__del__")
    body["__class__"] = property(lambda self: (hook("__class__"), base)[1])
    return type(f"Hostile{base.__name__}", (base,), body)


def liar(pretended: type, hook: Hook) -> Any:
    """An object that is not what its `__class__` says."""
    return type("Liar", (), {
        "__class__": property(lambda self: (hook("__class__"), pretended)[1]),
        "__del__": lambda self: hook("__del__"),
    })()  # fmt: skip


Made = Callable[[World, Hook], Any]


def text_objects(payload: str) -> dict[str, Made]:
    return {
        "subclass": lambda world, hook: hostile(str, hook)(payload),
        "large": lambda world, hook: hostile(str, hook)(payload + "x" * 90_000),
        "wide": lambda world, hook: hostile(str, hook)(payload + "ä€😀" * 5000),
        "surrogate": lambda world, hook: hostile(str, hook)(payload + "\ud800"),
        "liar": lambda world, hook: liar(str, hook),
        "bytes": lambda world, hook: hostile(bytes, hook)(payload.encode()),
        "none": lambda world, hook: None,
        "enum": lambda world, hook: enum.StrEnum("Text", {"A": payload}).A,  # type: ignore[attr-defined]
    }


def buffer_objects(payload: bytes) -> dict[str, Made]:
    def released(world: World, hook: Hook) -> Any:
        view = memoryview(payload)
        view.release()
        return view

    def mapped(world: World, hook: Hook) -> Any:
        area = mmap.mmap(-1, len(payload))
        area.write(payload)
        return area

    made: dict[str, Made] = {
        "subclass": lambda world, hook: hostile(bytes, hook)(payload),
        "mutable": lambda world, hook: hostile(bytearray, hook)(payload),
        "large": lambda world, hook: hostile(bytearray, hook)(payload + b"x" * 90_000),
        "strided": lambda world, hook: memoryview(bytes(b for byte in payload for b in (byte, 0)))[::2],
        "reversed": lambda world, hook: memoryview(payload[::-1])[::-1],
        "released": released,
        "mapped": mapped,
        "ctypes": lambda world, hook: (ctypes.c_ubyte * len(payload)).from_buffer_copy(payload),
        "array": lambda world, hook: array.array("B", payload),
        "shaped": lambda world, hook: memoryview(payload + b"x" * (-len(payload) % 4)).cast(
            "B", (2, -(-len(payload) // 4) * 2)
        ),
        "liar": lambda world, hook: liar(bytes, hook),
        "text": lambda world, hook: hostile(str, hook)("text"),
        "number": lambda world, hook: hostile(int, hook)(7),
    }
    if sys.version_info >= (3, 12):
        made["buffer"] = lambda world, hook: type(
            "Buffer", (), {"__buffer__": lambda self, flags: (hook("__buffer__"), memoryview(payload))[1]}
        )()
        made["bad-buffer"] = lambda world, hook: type("Buffer", (), {"__buffer__": lambda self, flags: 7})()
    return made


KEYS: dict[str, Made] = {
    "subclass": lambda world, hook: hostile(str, hook)("k"),
    "tuple": lambda world, hook: (hostile(str, hook)("k"), hostile(int, hook)(3)),
    "number": lambda world, hook: hostile(int, hook)(3),
    "list": lambda world, hook: [],
    "nan": lambda world, hook: float("nan"),
    "liar": lambda world, hook: liar(str, hook),
}
CODES: dict[str, Made] = {
    "subclass": lambda world, hook: hostile(int, hook)(4000),
    "bad": lambda world, hook: hostile(int, hook)(1005),
    "huge": lambda world, hook: hostile(int, hook)(1 << 80),
    "negative": lambda world, hook: -1,
    "bool": lambda world, hook: True,
    "float": lambda world, hook: hostile(float, hook)(1000.0),
    "liar": lambda world, hook: liar(int, hook),
    "enum": lambda world, hook: enum.IntEnum("Code", {"A": 4000}).A,  # type: ignore[attr-defined]
}
NUMBERS: dict[str, Made] = {
    "int": lambda world, hook: hostile(int, hook)(500),
    "float": lambda world, hook: hostile(float, hook)(5.5),
    "text": lambda world, hook: hostile(str, hook)("close"),
    "tuple": lambda world, hook: hostile(tuple, hook)((hostile(int, hook)(500), hostile(float, hook)(600.0))),
    "list": lambda world, hook: hostile(list, hook)(["chat"]),
    "dict": lambda world, hook: hostile(dict, hook)({"a": "b"}),
    "liar-int": lambda world, hook: liar(int, hook),
    "liar-str": lambda world, hook: liar(str, hook),
    "liar-bool": lambda world, hook: liar(bool, hook),
    "liar-deflate": lambda world, hook: liar(Deflate, hook),
    "huge": lambda world, hook: 1 << 200,
    "nan": lambda world, hook: float("nan"),
    "infinite": lambda world, hook: float("inf"),
    "none": lambda world, hook: None,
}


def awaitables() -> dict[str, Made]:
    """What may be returned where something is awaited."""

    def with_await(result: Callable[[Hook], Any]) -> Made:
        def make(world: World, hook: Hook) -> Any:
            def own(self: Any) -> Any:
                hook("__await__")
                return result(hook)

            return type("Awaitable", (), {"__await__": own, "__del__": lambda self: hook("__del__")})()

        return make

    def used(world: World, hook: Hook) -> Any:
        async def nothing() -> None:
            pass

        coroutine = nothing()
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        return coroutine

    def yields(value: Any) -> Callable[[Hook], Any]:
        def generate(hook: Hook) -> Iterator[Any]:
            hook("yield")
            yield value

        return generate

    def future(world: World, hook: Hook) -> Any:
        made = world.loop.create_future()
        made.set_exception(Spite("of a future"))
        return made

    async def endless_refusal(hook: Hook) -> None:
        hook("run")
        try:
            await asyncio.sleep(0)
        finally:
            hook("finally")

    return {
        "raises": with_await(lambda hook: (_ for _ in ()).throw(Spite("of an awaitable"))),
        "no-iterator": with_await(lambda hook: 7),
        "none": with_await(lambda hook: None),
        "yields-garbage": with_await(yields("garbage")),
        "yields-object": with_await(yields(object())),
        "yields-none": with_await(yields(None)),
        "used": used,
        "future": future,
        "coroutine": lambda world, hook: endless_refusal(hook),
        "generator": lambda world, hook: (each for each in ()),
        "liar": lambda world, hook: liar(type(endless_refusal), hook),
        "object": lambda world, hook: hostile(dict, hook)({"a": 1}),
        "text": lambda world, hook: hostile(str, hook)("text"),
        "true": lambda world, hook: True,
    }


def exceptions() -> dict[str, Made]:
    def of(base: type, text: Callable[[Any], Any]) -> Made:
        def make(world: World, hook: Hook) -> Any:
            def own(self: Any) -> Any:
                hook("__str__")
                return text(self)

            body = {"__str__": own, "__repr__": own, "__del__": lambda self: hook("__del__")}
            return type("Hostile\nError", (base,), body)(*([403, "text"] if base is Reject else ["text"]))

        return make

    def bad(self: Any) -> Any:
        raise Spite("no text")

    def exits(self: Any) -> Any:
        raise SystemExit("no text")

    def named(world: World, hook: Hook) -> Any:
        def name(cls: Any) -> Any:
            hook("__name__")
            return 7

        return type("Meta", (type,), {"__name__": property(name)})("Error", (Exception,), {})()

    return {
        "text": of(Exception, lambda self: "\x1b[31mred\n\u2028"),
        "no-text": of(Exception, bad),
        "exits": of(Exception, exits),
        "number": of(Exception, lambda self: 7),
        "exit": of(SystemExit, lambda self: "exit"),
        "base": of(BaseException, lambda self: "base"),
        "cancelled": of(asyncio.CancelledError, lambda self: "cancelled"),
        "stop": of(StopIteration, lambda self: "stop"),
        "generator-exit": of(GeneratorExit, lambda self: "exit"),
        "memory": of(MemoryError, bad),
        "reject": lambda world, hook: Reject(403, hostile(str, hook)("no\r\nX: y")),
        "reject-subclass": of(Reject, bad),
        "named": named,
        "group": lambda world, hook: ExceptionGroup(hostile(str, hook)("group"), [Spite("a")]),
    }  # fmt: skip


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
