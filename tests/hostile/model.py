"""What each client must get: every call that sends, in a plain-Python record, and the rule that the frames are held to.

A call that comes while another one is being made, from a finalizer say, is nested in it. Of a nested call and the one
that it is nested in either may be first. Otherwise messages arrive in the order of the calls, each thread's by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count, pairwise
from typing import Any, NamedTuple

ALL = "*"


class Message(NamedTuple):
    """A text or binary message as it came to a client."""

    opcode: int
    payload: bytes


class Call:
    """One call that sends, or closes.

    Attributes:
        to: The connection's name, or ALL.
        open: The connections that a broadcast went to: those that were open.
        result: What it returned, or the exception.
    """

    __slots__ = ("children", "number", "opcode", "open", "payload", "result", "thread", "to")

    def __init__(self, number: int, to: str, opcode: int, payload: bytes, is_open: frozenset[str], thread: int) -> None:
        self.number, self.to, self.opcode, self.payload = number, to, opcode, payload
        self.open, self.thread = is_open, thread
        self.children: list[Call] = []
        self.result: Any = None

    def __repr__(self) -> str:
        what = f"{len(self.payload)} bytes" if self.opcode else "close"
        return f"#{self.number} to {self.to} ({what}) -> {self.result!r}"

    @property
    def accepted(self) -> bool:
        """True if it must arrive."""
        return self.result is True or (self.to == ALL and self.result is None)

    def is_for(self, name: str) -> bool:
        return bool(self.opcode) and (self.to == name or (self.to == ALL and name in self.open))

    def all(self) -> Iterator[Call]:
        """It and those nested in it."""
        yield self
        for child in self.children:
            yield from child.all()


class Record:
    """All calls of one application."""

    def __init__(self) -> None:
        self.roots: list[Call] = []
        self.calls: dict[int, Call] = {}
        self._numbers = count()
        self._stacks = threading.local()

    def payload(self, size: int, tag: str = "") -> bytes:
        """One that no other call has."""
        number = next(self._numbers)
        head = f"{number}:{tag}:".encode()
        return head + bytes([97 + number % 26]) * max(0, size - len(head))

    def begin(self, to: str, opcode: int, payload: bytes, is_open: frozenset[str] = frozenset()) -> Call:
        """A call is about to be made in this thread."""
        stack: list[Call] = self._stack()
        number = number_of(payload)
        if number < 0:
            number = next(self._numbers)
        call = self.calls[number] = Call(number, to, opcode, payload, is_open, threading.get_ident())
        (stack[-1].children if stack else self.roots).append(call)
        stack.append(call)
        return call

    def end(self, call: Call, result: Any) -> None:
        """It has returned, or raised."""
        call.result = result
        stack = self._stack()
        while stack and stack.pop() is not call:
            pass

    def depth(self) -> int:
        """How many calls are being made by this thread."""
        return len(self._stack())

    def _stack(self) -> list[Call]:
        if not hasattr(self._stacks, "calls"):
            self._stacks.calls = []
        calls: list[Call] = self._stacks.calls
        return calls

    # ---- The rule ------------------------------------------------------------------------------------------------

    def faults(self, name: str, received: list[Message], *, ended: bool, drops: bool = False) -> list[str]:
        """What is wrong with what a client got.

        Args:
            ended: The connection has ended, on either side. Then what was sent last may be missing.
            drops: The backlog policy may have left messages out.
        """
        places: dict[int, int] = {}
        faults: list[str] = []
        for place, message in enumerate(received):
            number = number_of(message.payload)
            call = self.calls.get(number)
            if call is None:
                faults.append(f"{name} got what nothing has sent: {message.payload[:40]!r}")
                continue
            if (call.opcode, call.payload) != message:
                faults.append(f"{name} got {shown(message)} of {call!r}, mixed or cut")
            elif number in places:
                faults.append(f"{name} got {call!r} twice")
            elif call.to not in (name, ALL):
                faults.append(f"{name} got {call!r}")
            elif isinstance(call.result, BaseException) or call.result is False:
                faults.append(f"{name} got {call!r}, whose caller was told that it was not sent")
            places[number] = place
        if not faults:
            faults += self._missing(name, places, ended, drops)
            faults += self._disorder(name, places)
        return faults

    def _missing(self, name: str, places: dict[int, int], ended: bool, drops: bool) -> Iterator[str]:
        """What is lost. Of a connection that has ended the last ones may be, but for what was before one that came."""
        if drops:
            return
        last: dict[int, int] = {}
        for index, root in enumerate(self.roots):
            if any(call.number in places for call in root.all()):
                last[root.thread] = index
        for index, root in enumerate(self.roots):
            if ended and index >= last.get(root.thread, -1):
                continue
            for call in root.all():
                if call.is_for(name) and call.accepted and call.number not in places:
                    yield f"{name} never got {call!r}{', though later ones' if ended else ''}"

    def _disorder(self, name: str, places: dict[int, int]) -> Iterator[str]:
        before: dict[int, tuple[int, Call]] = {}
        for root in self.roots:
            span = self._span(root, places)
            if span is None:
                continue
            if root.thread in before and span[0] < before[root.thread][0]:
                yield f"{name} got {root!r}, or what is nested in it, before {before[root.thread][1]!r}"
            before[root.thread] = span[1], root
            for call in root.all():
                if not self._in_order(call, places):
                    yield f"{name} got {[each.number for each in root.all()]} out of order: {call.children!r}"

    def _span(self, call: Call, places: dict[int, int]) -> tuple[int, int] | None:
        found = [places[each.number] for each in call.all() if each.number in places]
        return (min(found), max(found)) if found else None

    def _in_order(self, call: Call, places: dict[int, int]) -> bool:
        spans = [span for child in call.children if (span := self._span(child, places)) is not None]
        own = places.get(call.number)
        for one, next_one in pairwise(spans):
            if one[1] >= next_one[0]:
                return False
        return own is None or not any(first < own < last for first, last in spans)


def number_of(payload: bytes) -> int:
    """The number that a payload begins with; -1: it has none."""
    head = payload[:20].partition(b":")[0]
    return int(head) if head.isdigit() else -1


def shown(message: Message) -> str:
    return f"{len(message.payload)} bytes {message.payload[:12]!r}...{message.payload[-6:]!r}"
