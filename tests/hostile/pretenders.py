"""Objects that are not what they seem: whatever method of theirs is called sends, broadcasts, closes or raises."""

from __future__ import annotations

import array
import asyncio
import ctypes
import enum
import mmap
import sys
from collections.abc import Callable, Iterator
from typing import Any

from world import World

from crest import Deflate, Reject

MOST = 12
"""How often one object does something; then its methods do what they should."""


class Spite(Exception):
    """What hostile objects raise."""


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
