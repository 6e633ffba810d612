"""Which app serves the servers that were never mounted.

Such a server belongs to the app made in its module; if there is none, to the only app of the process. If several apps
are meant, starting one of them is an error. Apps that have ended do not count.

Apps are not kept alive by being known here. An app keeps, until it starts, the servers that may be its: a function that
makes both may return the app alone. A server of a module without an app is kept here, until an app has it.
"""

from __future__ import annotations

import gc
import sys
from types import FrameType
from typing import Final, Protocol
from weakref import WeakValueDictionary

from crest.exceptions import ConfigurationError


class Attachable(Protocol):
    """The part of a WebSocketServer that decides which app serves it."""

    _module: str | None

    @property
    def path(self) -> str: ...


class Running(Protocol):
    """An app, or another that serves servers: each server is served by one at a time."""

    def _is_running(self) -> bool: ...


class Attaching(Running, Protocol):
    """The part of an App that decides which servers it serves."""

    _module: str | None
    _kept: list[Attachable]

    def _has_ended(self) -> bool: ...


CONSTRUCTORS: Final = "__init__", "__new__", "__post_init__", "__attrs_post_init__"

# By their id: an application's subclass may say that two are equal.
_apps: WeakValueDictionary[int, Attaching] = WeakValueDictionary()
_unmounted: WeakValueDictionary[int, Attachable] = WeakValueDictionary()
_homeless: list[Attachable] = []
"""Unmounted servers made before any app ran, in a module without one: nothing else may refer to them yet."""


def origin_of(made: object) -> tuple[str | None, str]:
    """Find where an object is being made, for its constructor: the module's name, and file and line.

    Constructors of subclasses do not count, as another module may have them. Nor does `typing`, which makes the call of
    `WebSocketServer[User]()`.
    """
    frame = sys._getframe(2)
    while frame.f_back is not None and (_constructs(frame, made) or frame.f_globals.get("__name__") == "typing"):
        frame = frame.f_back
    return frame.f_globals.get("__name__"), f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _constructs(frame: FrameType, made: object) -> bool:
    code = frame.f_code
    if code.co_name not in CONSTRUCTORS or not code.co_argcount:  # its locals would be a copy, which the frame keeps
        return False
    return frame.f_locals.get(code.co_varnames[0]) is made


def app_made(app: Attaching) -> None:
    """Count a new app, which keeps the servers that its module has made before."""
    _apps[id(app)] = app
    app._kept = [server for server in _unmounted.values() if server._module == app._module]
    _homeless[:] = [server for server in _homeless if server._module != app._module]


def server_made(server: Attachable) -> None:
    """Count a new server as not mounted."""
    _unmounted[id(server)] = server
    neighbours, others = _neighbours(server), _apps_in_use(None)
    for app in neighbours or others:
        if not app._is_running():
            app._kept.append(server)
    if not neighbours and not any(app._is_running() for app in others):
        _homeless.append(server)


def mounted(server: Attachable) -> None:
    """Count a server as mounted: an app has it, and keeps it."""
    if _unmounted.pop(id(server), None) is not None:
        for app in list(_apps.values()):
            app._kept = [each for each in app._kept if each is not server]
        _homeless[:] = [each for each in _homeless if each is not server]


def servers_for(app: Attaching) -> list[Attachable]:
    """Find the servers that are to be mounted by an app that starts, the oldest first.

    Raises:
        ConfigurationError: One may belong to another app as well.
    """
    if _is_unclear(app):
        _drop_unused(app)
    found = _candidates(app)
    for server in found:
        owners = _owners(server, app)
        if len(owners) > 1:
            _homeless.clear()  # the program is told to say whose they are
            names = " or ".join(map(repr, owners))
            raise ConfigurationError(
                f"{server!r} was never mounted, and may belong to {names}: say to which by app.mount(path, server)"
            )
    return found


def _candidates(app: Attaching) -> list[Attachable]:
    """Find the servers that may belong to an app that starts."""
    return [server for server in list(_unmounted.values()) if any(each is app for each in _owners(server, app))]


def _owners(server: Attachable, starting: Attaching) -> list[Attaching]:
    """Find the apps that a server may belong to when one of them starts."""
    in_use, neighbours = _apps_in_use(starting), _neighbours(server)
    return [each for each in in_use if each._module == server._module] if neighbours else in_use


def _neighbours(server: Attachable) -> list[Attaching]:
    """Find the apps of a server's module, including those that have ended: even then the server is no other app's."""
    return [each for each in list(_apps.values()) if each._module == server._module]


def _apps_in_use(starting: Attaching | None) -> list[Attaching]:
    """Find the apps that run, or start, or have not run yet."""
    return [each for each in list(_apps.values()) if each is starting or not each._has_ended()]


def _is_unclear(app: Attaching) -> bool:
    """True if it matters whether all apps and servers are still referred to."""
    found = _candidates(app)
    kept = set(map(id, app._kept))
    if len({server.path for server in found}) < len(found) or not kept.issuperset(map(id, found)):
        return True
    return any(len(_owners(server, app)) > 1 for server in found)


def _drop_unused(app: Attaching) -> None:
    """Let go of what nothing refers to: apps, servers, and of several servers at one path all but the last."""
    _collect()
    last = {server.path: id(server) for server in _candidates(app)}
    for each in list(_apps.values()):
        each._kept = [server for server in each._kept if last.get(server.path, id(server)) == id(server)]
    _homeless[:] = [server for server in _homeless if last.get(server.path, id(server)) == id(server)]
    _collect()


def _collect() -> None:
    """Collect garbage: handlers refer to their server, and it to them. `App.run` has frozen what there was before."""
    frozen = gc.get_freeze_count() > 0
    if frozen:
        gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()
