"""What a worker was told as it was started: which one it is, and what it gets."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import Final

from crest.listening.endpoint import Endpoint, OpenAddress

VARIABLE: Final = "CREST_WORKER"
"""The environment's variable that says so. Processes that a worker starts inherit it, and are no workers."""


@dataclass(frozen=True)
class Enlisted:
    """A worker's part.

    Attributes:
        number: Its place among the workers, from 1.
        serial: Counts all workers that the supervisor has started.
        run: Which call of `App.run` with workers it is to serve, of those that the program makes; from 1.
        control: Descriptor of the socket that the supervisor is at the other end of.
        shared: Descriptor of the memory that all workers share, see `Shared`.
        slot: This worker's place in it.
        slots: How many it has.
        endpoints: Descriptors of the listening sockets, and for each endpoint if TLS is spoken there.
    """

    number: int
    serial: int
    run: int
    control: int
    shared: int
    slot: int
    slots: int
    endpoints: tuple[tuple[tuple[int, ...], bool], ...]

    def open(self) -> OpenAddress:
        """Take over the listening sockets."""
        return OpenAddress(
            [
                Endpoint([socket.socket(fileno=each) for each in descriptors], tls, passed=True, announced=True)
                for descriptors, tls in self.endpoints
            ]
        )


_known: list[Enlisted | None] = []
"""Keeps this process's part, once it was read: its descriptors are closed later, and their numbers mean others then."""


def enlisted() -> Enlisted | None:
    """Return this process's part as a worker; None: it is none."""
    if not _known:
        _known.append(_read())
    return _known[0]


def _read() -> Enlisted | None:
    try:
        told = json.loads(os.environ[VARIABLE])
        if told["supervisor"] != os.getppid():
            return None
    except (KeyError, ValueError):
        return None
    endpoints = tuple((tuple(each["sockets"]), each["tls"]) for each in told["endpoints"])
    for descriptor in (told["control"], told["shared"], *(each for sockets, _ in endpoints for each in sockets)):
        os.set_inheritable(descriptor, False)
    names = ("number", "serial", "run", "control", "shared", "slot", "slots")
    return Enlisted(**{name: told[name] for name in names}, endpoints=endpoints)


_calls = 0


def count_call() -> int:
    """Count a call of `App.run` with workers. Returns how many there have been."""
    global _calls
    _calls += 1
    return _calls
