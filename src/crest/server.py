"""`WebSocketServer`: the handlers and limits of one WebSocket path, and its broadcasts."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Literal, overload

from crest.admission import Admission
from crest.connection import User, WebSocketConnection
from crest.handlers import (
    BinaryHandler,
    CloseHandler,
    ConnectionHandler,
    ErrorHandler,
    TextHandler,
    registering,
)
from crest.http import Request
from crest.io.hub import POLICIES, Hub
from crest.io.methods import Broadcaster
from crest.options import (
    Rate,
    check_count,
    check_flag,
    check_optional_count,
    check_path,
    check_rate,
    check_seconds,
    check_span,
)
from crest.wire.extensions import Deflate
from crest.wire.handshake import is_token
from crest.wire.meter import Rates

MOST_BYTES = (1 << 63) - 1
MOST_COUNT = (1 << 32) - 1
MOST_THREADS = 16

waiting: list[WebSocketServer] = []
"""Servers that were never mounted, the oldest first: the next app to run mounts them, each at its own path."""


class WebSocketServer(Broadcaster, Generic[User]):
    """The WebSocket connections of one path: their handlers, their limits, and broadcasts to all of them.

    Never mounted, it is served at its path by the app that runs in this process.

    For type checkers, a `WebSocketServer[User]` has users of that type: `on_upgrade` returns one, which is `conn.user`.
    Without the brackets they are `Any`.

    Handlers are plain functions, called directly on the event loop, or `async def`: those of one connection run one
    at a time, in order. Registering a handler again replaces it. What a handler raises goes to `on_error`.

    Args:
        path: Where it is served.
        subprotocols: Names that this server speaks, the preferred one first (RFC 6455 section 1.9).
        origins: Which pages of browsers may connect: "same" for those of the server's own origin, "*" for any, an
            origin ("https://example.com"), a compiled pattern that matches whole origins, or a sequence of those.
            Others get 403. Whoever sends no Origin is no browser, and may connect.
        max_connections: How many there may be at a time, those included that `on_upgrade` has not decided about and
            those that are ending; None for any number. Past it, 503.
        max_connections_per_ip: How many of one IPv4 address, or one IPv6 network of 64 bits. Past it, 429.
        max_connect_rate_per_ip: How often a second one such address or network may ask to connect, or a pair of that
            and of how often at once, which is otherwise a second's worth. Past it, 429. None: any number.
        max_message_size: Bytes of payload that a message may have, over all its fragments. A longer one closes the
            connection with 1009, as soon as it is announced.
        max_fragments: Frames that a message may come in, empty ones included. More close with 1008.
        max_message_rate: Messages a second that a client may send, or a pair of that and of how many at once, which is
            otherwise a second's worth. Pings count, and so do pongs that nobody asked for, and empty fragments. Past it
            the connection is closed with 1008. None: any number.
        max_byte_rate: The same of bytes, as they come: compressed, and with the frames' headers. TLS records that have
            nothing for the connection count, too.
        count_inflated: Whether the bytes that compressed messages inflate to count against `max_byte_rate`, too.
        max_backlog: Bytes that may wait for a client that reads too slowly.
        on_backlog: What happens past that: "close" closes the connection with 1013, and `on_error` says so;
            "drop-newest" (or "drop") drops the newest message instead, and `send` returns False; "drop-oldest" drops
            the messages that have waited longest; "latest" keeps of the broadcasts with a `key` only the newest of
            each, and closes the connection past that for all else.
        max_queue: Messages of one connection that may wait for its async handler; past that its socket is not read.
        close_timeout: Seconds for a client to answer a close frame, and for a connection's async handlers to end
            after it.
        ping_interval: Seconds without a sign of life after which a client is sent a ping (RFC 6455 section 5.5.2);
            anything that it sends is one. None: never.
        ping_timeout: Seconds after such a ping in which something must come. If nothing does, the connection is failed
            with 1011, and `on_error` says so. None: any number.
        idle_timeout: Seconds without a message after which a connection is closed with 1001, however well the client
            answers pings. None: any number.
        slow_handler: Seconds that handlers may block the event loop before a warning names them in the log. None: any
            number.
        compression: How messages are compressed (permessage-deflate, RFC 7692), for clients that can: a `Deflate`;
            "deflate" is one with its defaults. None: they are not.
        fanout_slice: Seconds after which a broadcast to very many connections is interrupted, so that the loop can
            serve others meanwhile.
        fanout_threads: Threads that send such a broadcast, the event loop's own among them: 1 to 16. Helpers start with
            the first broadcast to some hundreds of connections.

    Attributes:
        admission, deflate, hub, served_by: For the app that serves it.

    Raises:
        TypeError, ValueError: An argument is of the wrong type or out of range.
    """

    # CPython 3.11 is slow to find attributes in the dict of an extension type's subclass, and these are looked up for
    # each handshake. The dict is for the application's own.
    __slots__ = ("__dict__", "__weakref__", "_made_at", "admission", "deflate", "path", "served_by", "subprotocols")

    def __init__(
        self,
        path: str = "/ws",
        *,
        subprotocols: Sequence[str] = (),
        origins: str | re.Pattern[str] | Sequence[str | re.Pattern[str]] = "same",
        max_connections: int | None = None,
        max_connections_per_ip: int | None = None,
        max_connect_rate_per_ip: Rate | None = None,
        max_message_size: int = 1 << 20,
        max_fragments: int = 1 << 17,
        max_message_rate: Rate | None = None,
        max_byte_rate: Rate | None = None,
        count_inflated: bool = False,
        max_backlog: int = 1 << 20,
        on_backlog: Literal["close", "drop", "drop-newest", "drop-oldest", "latest"] = "close",
        max_queue: int = 16,
        close_timeout: float = 10.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        idle_timeout: float | None = None,
        slow_handler: float | None = 1.0,
        compression: Literal["deflate"] | Deflate | None = None,
        fanout_slice: float = 0.005,
        fanout_threads: int = 1,
    ) -> None:
        policy = "drop-newest" if on_backlog == "drop" else on_backlog
        if policy not in POLICIES:
            raise ValueError(f"on_backlog must be one of {', '.join(map(repr, POLICIES))}, not {on_backlog!r}")
        self.path: str = check_path(path)
        self.subprotocols: tuple[str, ...] = _check_subprotocols(subprotocols)
        self.deflate = _check_compression(compression, policy)
        self.admission = Admission(
            origins,
            check_optional_count("max_connections", max_connections, MOST_COUNT),
            check_optional_count("max_connections_per_ip", max_connections_per_ip, MOST_COUNT),
            check_rate("max_connect_rate_per_ip", max_connect_rate_per_ip),
        )
        self.hub = Hub(
            max_message_size=check_count("max_message_size", max_message_size, MOST_BYTES),
            max_fragments=check_count("max_fragments", max_fragments, MOST_COUNT),
            max_backlog=check_count("max_backlog", max_backlog, MOST_BYTES),
            on_backlog=policy,
            max_queue=check_count("max_queue", max_queue, MOST_COUNT),
            close_timeout=check_seconds("close_timeout", close_timeout),
            ping_interval=check_span("ping_interval", ping_interval),
            ping_timeout=check_span("ping_timeout", ping_timeout),
            idle_timeout=check_span("idle_timeout", idle_timeout),
            slow_handler=check_span("slow_handler", slow_handler),
            deflate=self.deflate,
            fanout_slice=check_seconds("fanout_slice", fanout_slice),
            fanout_threads=check_count("fanout_threads", fanout_threads, MOST_THREADS),
            rates=_rates(
                check_rate("max_message_rate", max_message_rate),
                check_rate("max_byte_rate", max_byte_rate),
                check_flag("count_inflated", count_inflated),
            ),
        )
        self.served_by: object = None  # the app that serves it now
        caller = sys._getframe(1)
        if caller.f_globals.get("__name__") == "typing" and caller.f_back is not None:  # of WebSocketServer[User]()
            caller = caller.f_back
        self._made_at = f"{caller.f_code.co_filename}:{caller.f_lineno}"
        waiting.append(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r} made at {self._made_at}>"

    # ---- Handlers ------------------------------------------------------------------------------------------------

    @overload
    def on_upgrade(
        self, handler: Callable[[Request], Coroutine[Any, Any, User]]
    ) -> Callable[[Request], Coroutine[Any, Any, User]]: ...
    @overload
    def on_upgrade(self, handler: Callable[[Request], User]) -> Callable[[Request], User]: ...
    @registering
    def on_upgrade(self, handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """Register `handler(request)`: decides about an opening handshake, before it is accepted.

        What it returns, or an `async def` in the end, is the connection's `user`. It raises `Reject` to refuse; any
        other exception is logged, and the client gets 500.
        """
        self.admission.on_upgrade = handler
        return handler

    @registering
    def on_connect(self, handler: ConnectionHandler) -> ConnectionHandler:
        """Register `handler(conn)`: a client has connected. It runs before any other handler of that connection."""
        self.hub.on_connect = handler
        return handler

    @registering
    def on_message(self, handler: TextHandler) -> TextHandler:
        """Register `handler(conn, message: str)`: a text message has come, whole, however it was fragmented.

        A server with an `on_binary` handler and none for text closes with 1003 instead.
        """
        self.hub.on_message = handler
        return handler

    @registering
    def on_binary(self, handler: BinaryHandler) -> BinaryHandler:
        """Register `handler(conn, data: bytes)`: a binary message has come.

        A server with an `on_message` handler and none for binary closes with 1003 instead.
        """
        self.hub.on_binary = handler
        return handler

    @registering
    def on_close(self, handler: CloseHandler) -> CloseHandler:
        """Register `handler(conn, code: int, reason: str)`: the connection has ended; exactly once for each.

        Code and reason are the peer's; 1005 when its close frame had none, 1006 when the TCP connection ended without
        one, and those that this side sent when it failed the connection.
        """
        self.hub.on_close = handler
        return handler

    @registering
    def on_error(self, handler: ErrorHandler) -> ErrorHandler:
        """Register `handler(conn, error: ErrorText)`: the peer broke the protocol or a limit, or a handler raised.

        `error` says what and where; its `exception` is what the handler raised, else None. After the peer's error the
        connection closes; after a handler's it stays open. Without an `on_error` handler, a handler's exception is
        logged with its traceback, and the connection is closed with 1011.
        """
        self.hub.on_error = handler
        return handler

    @registering
    def on_drain(self, handler: ConnectionHandler) -> ConnectionHandler:
        """Register `handler(conn)`: a client that had not read fast enough has taken all that waited for it.

        It runs after a send has found that the client does not keep up, once everything that was sent is with the
        kernel: `conn.buffered` is 0, or what was sent since.
        """
        self.hub.on_drain = handler
        return handler

    # ---- Admission -----------------------------------------------------------------------------------------------

    @property
    def refused(self) -> dict[str, int]:
        """How many upgrade requests were refused since the server was made, by kind; a new dict.

        "handshake": a bad one; "origin"; "max_connections"; "max_connections_per_ip"; "max_connect_rate_per_ip";
        "on_upgrade": by `Reject`; "error": it raised something else; "timeout": it took too long; "memory": there was
        no budget for what came behind the request (`max_backlog_total`); "shutdown": the server was shutting down.
        """
        return dict(self.admission.refused)

    # ---- Connections ---------------------------------------------------------------------------------------------

    def connection_count(self) -> int:
        """How many connections are open."""
        return self.hub.connection_count()

    def get_connections(self) -> list[WebSocketConnection[User]]:
        """The connections that are open; a new list."""
        return self.hub.connections()


def _check_subprotocols(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"subprotocols must be a sequence of names, not the str {names!r}")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a subprotocol must be str, not {type(name).__name__}")
        if not is_token(name):
            raise ValueError(f"not a subprotocol's name (RFC 6455 section 4.1): {name!r}")
    return tuple(names)


def _rates(messages: tuple[float, float] | None, octets: tuple[float, float] | None, inflated: bool) -> Rates | None:
    if inflated and octets is None:
        raise ValueError("count_inflated counts against max_byte_rate, and there is none")
    return None if messages is None and octets is None else Rates(messages, octets, inflated)


def _check_compression(compression: Literal["deflate"] | Deflate | None, policy: str) -> Deflate | None:
    if compression == "deflate":
        return Deflate()
    if isinstance(compression, str):
        raise ValueError(f"compression must be 'deflate', a Deflate or None, not {compression!r}")
    if compression is not None and not isinstance(compression, Deflate):
        raise TypeError(f"compression must be 'deflate', a Deflate or None, not {type(compression).__name__}")
    if policy == "drop-oldest" and compression is not None and not compression.server_no_context_takeover:
        raise ValueError("on_backlog='drop-oldest' needs Deflate(server_no_context_takeover=True)")
    return compression
