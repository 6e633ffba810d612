"""The object that handlers hold: the connection's sending side, and what is known of the client at the other end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from crest.http.messages import Request
from crest.io.net.peer import Transport, client_address
from crest.io.net.stream import StreamTransport
from crest.io.out.member import Member
from crest.io.out.methods import with_own_methods
from crest.wire.head import parse_head, path_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    User = TypeVarWithDefault("User", default=Any)
else:
    User = TypeVar("User")  # its default is for type checkers: Python before 3.13 knows none

_process = ""


def _name_process() -> None:
    """Choose what sets this process's connections apart from those of all others: workers, hosts, earlier runs."""
    global _process
    _process = os.urandom(8).hex()


_name_process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_name_process)


def process_name() -> str:
    """Return the name of this process, which the ids of its connections begin with."""
    return _process


def id_of(process: str, number: int) -> str:
    """Return the id of a connection of a process."""
    return f"{process}-{number:x}"


def parts_of(connection_id: str) -> tuple[str, int] | None:
    """Return the process and the number of a connection; None if that is no id."""
    process, _, digits = connection_id.rpartition("-")
    try:
        number = int(digits, 16)
    except ValueError:
        return None
    return (process, number) if number < 1 << 64 and digits == f"{number:x}" else None


def name_of_user(user: object, key: str | None) -> str | None:
    """Return the name of a user: a `str` itself, or what it has under `key`, as an item of a mapping or an attribute.
    None: it has none, or one that is no `str` or empty."""
    name = user
    if key is not None and not isinstance(user, str):
        name = user.get(key) if isinstance(user, Mapping) else getattr(user, key, None)
    return name if isinstance(name, str) and name else None


@with_own_methods
class WebSocketConnection(Member, Generic[User]):
    """One WebSocket connection. Handlers get it; only crest makes one.

    For type checkers, `WebSocketConnection[User]` is one of a `WebSocketServer[User]`.

    `send`, `send_binary`, `close`, `ping`, `is_open`, `compression`, `buffered`, `latency`, `dropped` and `discarded`
    are the `Outbox`'s; `join`, `leave` and `rooms` are the `Member`'s.

    Attributes:
        subprotocol: The subprotocol that was agreed on (RFC 6455 section 1.9), or None.
    """

    __slots__ = ("__weakref__", "_client", "_request", "_scheme", "_state", "_user", "subprotocol")

    def __init__(
        self, head: bytes, peer: tuple[str, int] | Transport | None, scheme: str, subprotocol: str | None
    ) -> None:
        # Most connections are never asked for their request or address. Until then a connection keeps the raw head,
        # and the transport, which knows the address even when it is closed. It does not keep the event loop's TLS
        # transports: they refer to their connection for ever, and the garbage collector does not look here.
        self._request: Request | bytes = head
        if scheme == "https" and peer is not None and not isinstance(peer, tuple | StreamTransport):
            peer = client_address(peer)
        self._client = peer
        self._scheme = scheme
        self._state: SimpleNamespace | None = None
        self.subprotocol: str | None = subprotocol
        self._user: User | None = None

    def __repr__(self) -> str:
        return f"<WebSocketConnection {self.get_id()} {'open' if self.is_open() else 'closed'}>"

    def get_id(self) -> str:
        """Return the connection's name: unique among all connections of all workers and all runs, and safe to log."""
        return id_of(_process, self._number)

    def _admit(self, user: User, key: str | None) -> None:
        """Hear the user that authentication has returned, before the connection opens."""
        self._user = user
        self._may_refer_to_itself()
        self._be_user(name_of_user(user, key))

    def _log_fields(self) -> dict[str, object]:
        # Does not keep the request: most connections never have another use for it.
        request = self._request
        path = path_of(parse_head(request).target) if isinstance(request, bytes) else request.path
        return {"connection": self.get_id(), "client": self.remote_address, "path": path}

    @property
    def request(self) -> Request:
        """The request that opened the connection: path, query, headers, cookies, client address."""
        request = self._request  # read once: any thread may ask
        if isinstance(request, bytes):
            request = self._request = Request(parse_head(request), self.remote_address, self._scheme)
        return request

    @property
    def remote_address(self) -> tuple[str, int] | None:
        """Address and port of the client: those of the TCP peer; or, if that is a trusted proxy, those that it names,
        with port 0 if it names no port. None for a peer without an address (a Unix socket)."""
        client = self._client
        if client is not None and not isinstance(client, tuple):
            client = self._client = client_address(client)
        return client

    @property
    def state(self) -> SimpleNamespace:
        """A namespace for the application's own use."""
        if self._state is None:
            self._state = SimpleNamespace()
            self._may_refer_to_itself()
        return self._state

    @property
    def user(self) -> User:
        """The user that authentication returned; None without authentication. The application may set it. One with a
        name is in a room of its own, see `WebSocketServer.user`."""
        return self._user  # type: ignore[return-value]  # without authentication, User is what the application says

    @user.setter
    def user(self, value: User) -> None:
        self._admit(value, self._user_key)
