"""`WebSocketServer`: the handlers and limits of one WebSocket path, and its broadcasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from inspect import isawaitable
from logging import DEBUG
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, cast, overload
from weakref import ref

from crest.admission.acceptance import Accept
from crest.admission.decision import Admission
from crest.attachment import Running, origin_of, server_made
from crest.connection import User, WebSocketConnection, name_of_user, parts_of, process_name
from crest.gap import Gap
from crest.handlers import (
    BinaryHandler,
    CloseHandler,
    ConnectionHandler,
    ErrorHandler,
    GapHandler,
    TextHandler,
    registering,
)
from crest.http.messages import Request
from crest.io.out.address import UserRoom, rooms_in
from crest.io.out.hub import Hub
from crest.io.out.methods import Broadcaster
from crest.limits import Limits
from crest.log import logger
from crest.presence import Elsewhere, Presence
from crest.totals import Totals
from crest.wire.codes import Opcode
from crest.wire.extensions import Deflate
from crest.wire.meter import Rates

if TYPE_CHECKING:
    from typing_extensions import Buffer

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
"""The two functions that an ASGI server calls an application with."""

OverEvents = Callable[["WebSocketServer[Any]", MutableMapping[str, Any], Receive, Send], Awaitable[None]]

RATES: Final = "max_message_rate", "max_byte_rate", "count_inflated", "on_rate"
"""Options that become the hub's `Rates`."""


class WebSocketServer(Broadcaster, Limits, Generic[User]):
    """The WebSocket connections of one path: their handlers, their limits, and broadcasts to all of them.

    Never mounted, it is served at its path by the app made in the same module. If that has none, by the only app of the
    process. If there are several, starting one is an error.

    For type checkers, a `WebSocketServer[User]` has users of that type: `on_upgrade` returns one, which is `conn.user`.
    Without the brackets they are `Any`.

    Handlers are plain functions, called directly on the event loop, or `async def`: those of one connection run one
    at a time, in order. Registering a handler again replaces it. What a handler raises goes to the log and to
    `on_error`.

    Args:
        path: Where it is served; compared exactly, and no pattern.
        subprotocols: Names that this server speaks, the preferred one first (RFC 6455 section 1.9).
        origins: The pages of browsers that may connect. "same": those of the server's own origin; "*": any; an origin
            ("https://example.com", "file://"); a compiled pattern that matches the whole header; or a sequence.
            Others get 403. A client that sends no Origin is no browser, and may connect.
        max_connections: Connections at a time, including those that `on_upgrade` has not decided about and those that
            are ending. Past it, 503. None: any number.
        max_connections_per_ip: The same for one IPv4 address, or one IPv6 network of 64 bits. Past it, 429.
        max_connect_rate_per_ip: How often a second one such address or network may ask to connect; or a pair of that
            and of how often at once. By default a second's worth may come at once. Past it, 429. None: any number.
        max_message_size: Bytes of payload that a message may have, over all its fragments. A longer one closes the
            connection with 1009, as soon as it is announced.
        max_fragments: Frames that a message may come in, empty ones included. More close with 1008.
        max_message_rate: Messages a second that a client may send; or a pair of that and of how many at once. By
            default a second's worth may come at once. Pings count, and so do pongs that answer no ping, and empty
            fragments. Past it `on_rate` decides. None: any number.
        max_byte_rate: The same for bytes, as they come: compressed, and with the frames' headers. TLS records without
            data for the connection count, too.
        count_inflated: True: the bytes that compressed messages inflate to count against `max_byte_rate`, too.
        on_rate: What happens past either rate: "close" closes the connection with 1008, and `on_error` says so; "drop"
            discards the message whole, and `conn.discarded` counts it; "wait" reads nothing from the client until it
            may send again.
        max_backlog: Bytes that may wait for a client that reads too slowly.
        on_backlog: What happens past that: "close" closes the connection with 1013, and `on_error` says so;
            "drop-newest" (or "drop") drops the newest message instead, and `send` returns False; "drop-oldest" drops
            the messages that have waited longest; "latest" keeps, of the broadcasts with a `key`, only the newest
            of each key, and is as "close" for everything else.
        send_ahead: Bytes that the system may take ahead of a client that does not read: those can neither be dropped
            nor superseded. None: 4096, but as many as the system likes with "close". Linux and macOS, and TCP only.
        max_queue: Messages of one connection that may wait for its async handler; past that its socket is not read.
        close_timeout: Seconds for a client to answer a close frame, and for a connection's async handlers to end
            after it.
        ping_interval: Seconds without a sign of life after which a client is sent a ping (RFC 6455 section 5.5.2).
            Anything that the client sends is a sign of life. None: never.
        ping_timeout: Seconds after such a ping in which something must come. If nothing does, the connection is failed
            with 1011, and `on_error` says so. None: any number.
        idle_timeout: Seconds without a message after which a connection is closed with 1001, however well the client
            answers pings. None: any number.
        slow_handler: Seconds that handlers may block the event loop before a warning names them in the log. None: any
            number.
        compression: How messages are compressed (permessage-deflate, RFC 7692), for clients that can: a `Deflate`;
            "deflate" is one with its defaults. None: they are not.
        user_key: Where a connection's `user` that is no `str` has the user's name: the key of a mapping, or an
            attribute. See `user`. None: only a `str` is a name.
        fanout_slice: Seconds after which a broadcast to very many connections is interrupted, so that the loop can
            serve others meanwhile.
        fanout_threads: Threads that send such a broadcast, the event loop's own among them: 1 to 16. Helpers start with
            the first broadcast to some hundreds of connections.

    Raises:
        TypeError, ValueError: An argument is of the wrong type or out of range.
    """

    # CPython 3.11 is slow to find attributes in the dict of an extension type's subclass, and these are looked up for
    # each handshake. The dict is for the application's own.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_admission",
        "_deflate",
        "_elsewhere",
        "_made_at",
        "_module",
        "_rates",
        "_served_by",
        "path",
        "subprotocols",
    )

    _over_events: ClassVar[OverEvents]
    """Serves a connection of which there are ASGI events only; `crest/__init__.py` says what does that."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._deflate = cast(Deflate | None, self.compression)  # it is checked
        self._rates = {name: getattr(self, name) for name in RATES}
        self._admission = Admission(
            self.origins,
            self.max_connections,
            self.max_connections_per_ip,
            self.max_connect_rate_per_ip,  # type: ignore[arg-type]  # a pair, once it is checked
        )
        self._hub = Hub(
            max_message_size=self.max_message_size,
            max_fragments=self.max_fragments,
            max_backlog=self.max_backlog,
            on_backlog=self.on_backlog,
            send_ahead=self.send_ahead,
            max_queue=self.max_queue,
            close_timeout=self.close_timeout,
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
            idle_timeout=self.idle_timeout,
            slow_handler=self.slow_handler,
            deflate=self._deflate,
            user_key=self.user_key,
            fanout_slice=self.fanout_slice,
            fanout_threads=self.fanout_threads,
            rates=_rates_of(**self._rates),
        )
        # What serves it now. Weak: an app whose loop was closed under it can go, and its sockets with it.
        self._served_by: ref[Running] | None = None
        self._module, self._made_at = origin_of(self)
        self._on_gap: Callable[[Gap], object] | None = None
        self._elsewhere: Elsewhere | None = None
        self._tellings: set[asyncio.Task[None]] = set()
        server_made(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r} made at {self._made_at}>"

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Be an ASGI application, for one connection that a framework has routed here. Everything is as documented of
        this class.

        Under uvicorn with `--ws crest.asgi:WebSocketProtocol` this takes the connection over, and returns at once.
        Under other servers it passes events on until the connection has ended.

        Raises:
            RuntimeError: An app serves this, or another event loop does.
        """
        if scope["type"] != "websocket":
            await _refuse_request(scope, send)
            return
        extension = (scope.get("extensions") or {}).get("crest")
        if extension is not None:
            extension["take_over"](self, scope)
        else:
            await self._over_events(scope, receive, send)

    # ---- Handlers ------------------------------------------------------------------------------------------------

    @overload
    def on_upgrade(
        self, handler: Callable[[Request], Coroutine[Any, Any, User | Accept[User]]]
    ) -> Callable[[Request], Coroutine[Any, Any, User | Accept[User]]]: ...
    @overload
    def on_upgrade(
        self, handler: Callable[[Request], User | Accept[User]]
    ) -> Callable[[Request], User | Accept[User]]: ...
    @registering("ws")
    def on_upgrade(self, handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """Register `handler(request)`: decides about an opening handshake, before it is accepted.

        The handler, plain or async, returns the connection's `user`, or an `Accept`, which has that and limits of this
        connection. It raises `Reject` to refuse; any other exception is logged, and the client gets 500.
        """
        self._admission.on_upgrade = handler
        return handler

    @registering("ws")
    def on_connect(self, handler: ConnectionHandler) -> ConnectionHandler:
        """Register `handler(conn)`: a client has connected. It runs before any other handler of that connection."""
        self._hub.register("on_connect", handler)
        return handler

    @registering("ws")
    def on_message(self, handler: TextHandler) -> TextHandler:
        """Register `handler(conn, message: str)`: a text message has come, whole, however it was fragmented.

        A server with an `on_binary` handler and none for text closes with 1003 instead.
        """
        self._hub.register("on_message", handler)
        return handler

    @registering("ws")
    def on_binary(self, handler: BinaryHandler) -> BinaryHandler:
        """Register `handler(conn, data: bytes)`: a binary message has come.

        A server with an `on_message` handler and none for binary closes with 1003 instead.
        """
        self._hub.register("on_binary", handler)
        return handler

    @registering("ws")
    def on_close(self, handler: CloseHandler) -> CloseHandler:
        """Register `handler(conn, code: int, reason: str)`: the connection has ended; exactly once for each.

        Code and reason are the peer's. The code is 1005 if its close frame had none, and 1006 if the TCP connection
        ended without a close frame. If this side failed the connection, both are those that it sent.
        """
        self._hub.register("on_close", handler)
        return handler

    @registering("ws")
    def on_error(self, handler: ErrorHandler) -> ErrorHandler:
        """Register `handler(conn, error: ErrorText)`: the peer broke the protocol or a limit, or a handler raised.

        `error` says what and where; its `exception` is what the handler raised, else None. After the peer's error the
        connection closes; after a handler's it stays open, or is closed with 1011 without an `on_error` handler. What a
        handler raises is logged with its traceback in either case.
        """
        self._hub.register("on_error", handler)
        return handler

    @registering("ws")
    def on_drain(self, handler: ConnectionHandler) -> ConnectionHandler:
        """Register `handler(conn)`: a client that had not read fast enough has taken all that waited for it.

        It runs after a send has found that the client does not keep up, once everything that was sent is with the
        kernel: `conn.buffered` is 0, or what was sent since.
        """
        self._hub.register("on_drain", handler)
        return handler

    @registering("ws")
    def on_gap(self, handler: GapHandler) -> GapHandler:
        """Register `handler(gap: Gap)`, plain or async: broadcasts of other workers were lost on their way to this one.

        The connections of this process have not got them. Without workers there are none to be lost.
        """
        self._on_gap = handler
        return handler

    def _heard_of_gap(self, gap: Gap) -> None:
        """Have the application hear of a gap."""
        if self._on_gap is not None:
            task = asyncio.get_running_loop().create_task(_tell(self._on_gap, gap))
            self._tellings.add(task)
            task.add_done_callback(self._tellings.discard)

    # ---- Admission -----------------------------------------------------------------------------------------------

    @property
    def refused(self) -> dict[str, int]:
        """Count by kind the upgrade requests that were refused since the server was made; a new dict.

        "handshake": a bad one; "origin"; "max_connections"; "max_connections_per_ip"; "max_connect_rate_per_ip";
        "on_upgrade": it raised `Reject`; "error": it raised something else; "timeout": it took too long; "memory":
        there was no budget for what came behind the request (`max_backlog_total`); "shutdown": the server was shutting
        down.
        """
        return dict(self._admission.refused)

    def _accepted(self, connection: WebSocketConnection, answer: Any) -> Hub:
        """Tell a connection the answer of `on_upgrade`, the user or an `Accept`, and return the hub that serves it."""
        hub = self._hub
        if answer is not None:
            if isinstance(answer, Accept):
                hub, answer = self._hub_with(answer.limits), answer.user
            if answer is not None:
                connection._admit(answer, self.user_key)
        if logger.isEnabledFor(DEBUG):
            fields = connection._log_fields()
            logger.debug("%s: connected, %s at %s", connection.get_id(), fields["client"], fields["path"], extra=fields)
        return hub

    def _hub_with(self, limits: Mapping[str, Any]) -> Hub:
        """Return the hub that serves connections with limits of their own."""
        if not limits:
            return self._hub
        changed = {name: value for name, value in limits.items() if name not in self._rates}
        rates = _rates_of(**{name: limits.get(name, value) for name, value in self._rates.items()})
        return self._hub.variant(tuple(limits.items()), {**changed, "rates": rates})

    # ---- Rooms ---------------------------------------------------------------------------------------------------

    def user(self, name: str, /) -> UserRoom:
        """Return the room of a user, as `to` of a broadcast takes it: all connections of which that is the user.

        A connection is in it by itself, if its `user` is a `str` or has one under `user_key`, and can not be by
        accident: no name that is joined is such a room.

        Raises:
            TypeError, ValueError: See `WebSocketConnection.join`.
        """
        return UserRoom(name)

    def room_size(self, room: str | UserRoom, /) -> int:
        """Count the connections of this process that are in a room; `room` is its name, or what `user` returns."""
        return self._hub.room_size(room)

    def room_names(self) -> list[str]:
        """List the names of the rooms that connections of this process are in; a new list."""
        return self._hub.room_names()

    # ---- Of all workers ------------------------------------------------------------------------------------------

    async def count(self, *, to: str | UserRoom | Iterable[str | UserRoom] | None = None) -> int:
        """Count the open connections of all workers: all of them, or those that are in a room, or in any of several.

        Raises:
            TypeError, ValueError: `to` is something else.
        """
        rooms = rooms_in(to)
        if rooms is None:
            return self._hub.connection_count() + self._hub.tally.open_elsewhere()
        others = 0 if self._elsewhere is None else await self._elsewhere.count(rooms)
        return others + (self._hub.room_size(*rooms) if len(rooms) == 1 else len(self._hub.members(*rooms)))

    async def members(self, room: str | UserRoom, /) -> list[Presence]:
        """List the connections of all workers that are in a room, in no order; `room` is its name, or what `user`
        returns.

        Raises:
            TypeError, ValueError: See `WebSocketConnection.join`.
        """
        self._hub.room_size(room)  # raises for what is no room
        others = [] if self._elsewhere is None else await self._elsewhere.members((room,))
        own = self._hub.members(room)
        return [Presence(each.get_id(), name_of_user(each.user, self.user_key)) for each in own] + others

    # ---- Connections ---------------------------------------------------------------------------------------------

    def send_to(self, connection_id: str, text: str, /, *, compress: bool = True) -> bool:
        """Send one text message to the connection that has this id (`WebSocketConnection.get_id`), in whichever worker
        it is. May be called from any thread.

        Returns:
            What `WebSocketConnection.send` returns; False if there is no such connection. For one of another worker
            True means that the message is on its way there.
        """
        process, number = self._parts(connection_id)
        if process != process_name():
            return self._hub.send_elsewhere(process, number, Opcode.TEXT, text, compress)
        connection = self._hub.find(number)
        return connection is not None and connection.send(text, compress=compress)

    def send_binary_to(self, connection_id: str, data: Buffer, /, *, compress: bool = True) -> bool:
        """Send one binary message to the connection that has this id; see `send_to`."""
        process, number = self._parts(connection_id)
        if process != process_name():
            return self._hub.send_elsewhere(process, number, Opcode.BINARY, data, compress)
        connection = self._hub.find(number)
        return connection is not None and connection.send_binary(data, compress=compress)

    def _parts(self, connection_id: str) -> tuple[str, int]:
        if not isinstance(connection_id, str):
            raise TypeError(f"a connection's id must be str, not {type(connection_id).__name__}")
        return parts_of(connection_id) or ("", 0)

    def totals(self) -> Totals:
        """Count what the server has done since it was made: connections, messages, bytes, drops, refusals.

        A snapshot: counts of one moment, which later calls do not change. May be called from any thread.
        """
        return Totals(refused=self.refused, **self._hub.tally.counts())

    def connection_count(self) -> int:
        """Count the open connections."""
        return self._hub.connection_count()

    def get_connections(self) -> list[WebSocketConnection[User]]:
        """List the open connections; a new list."""
        return self._hub.connections()


async def _refuse_request(scope: Mapping[str, Any], send: Send) -> None:
    """Answer a request that is none for a WebSocket. Lifespan is the framework's business."""
    if scope["type"] != "http":
        raise RuntimeError(f"a WebSocketServer serves connections, and has no {scope['type']}")
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"upgrade", b"websocket")]
    await send({"type": "http.response.start", "status": 426, "headers": headers})
    await send({"type": "http.response.body", "body": b"this is a WebSocket: the request must upgrade to it\n"})


async def _tell(handler: Callable[[Gap], object], gap: Gap) -> None:
    try:
        result = handler(gap)
        if isawaitable(result):
            await result
    except Exception:
        logger.exception("on_gap failed")


def _rates_of(*, max_message_rate: Any, max_byte_rate: Any, count_inflated: Any, on_rate: Any) -> Rates | None:
    """Return the rates that clients are held to, or None if there are none."""
    if max_message_rate is None and max_byte_rate is None:
        return None
    return Rates(max_message_rate, max_byte_rate, count_inflated, on_rate)
