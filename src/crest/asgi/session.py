"""One WebSocket of an ASGI application: its events to the application, the application's events to it.

Source: the ASGI specification, "WebSocket", spec_version 2.4; and its extension "WebSocket denial response". Where that
leaves a choice, this does as uvicorn's own classes do, whose tests it passes.

Until the application accepts, a `Session` is the opening of its connection (`AnyOpening` in io/life/protocol.pyi). From
then on the handlers of the hub, at the end of this file, tell it what comes. What is sent goes to the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum
from sys import getsizeof
from typing import Any, Final

from crest.connection import WebSocketConnection
from crest.exceptions import HandshakeError
from crest.http.messages import Response, error_response, serialize
from crest.io.life.protocol import Protocol
from crest.io.net.peer import scheme_of
from crest.io.out.hub import Hub
from crest.wire.extensions import Deflate
from crest.wire.fields import Field
from crest.wire.handshake import Offer
from crest.wire.head import RequestHead

Event = dict[str, Any]

BEHIND: Final = 1 << 16
"""Bytes: with more that wait for the client, `send` waits, too. An outbox with as many has asked the kernel already."""

FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding"})
"""Header fields of a denial response that are written here, whatever the application says."""

MOST_EARLY: Final = 1 << 16
"""Bytes that a client may send ahead of its response until no more is read."""

MUCH: Final = 1 << 20
"""Bytes: if messages that wait for the application take more, or if they are too many, no more are read."""

LAST_WAIT: Final = 1.0
"""Seconds for a client to answer the close frame of a shutdown."""

INTERNAL_ERROR: Final = Response("Internal Server Error", 500, content_type="text/plain")


class ClientDisconnected(OSError):
    """The client has gone: nothing can be sent to it any more."""


class Stage(Enum):
    """How far a session is. `Session.send` says which events an application may send at each."""

    CONNECTING = 0
    ANSWERING = 1  # a denial response has begun
    OPEN = 2
    CLOSED = 3  # by the application, with a close frame or a response
    GONE = 4  # the client has closed, or the connection is lost, or the server ends
    MOUNTED = 5  # a WebSocketServer has the connection: there are no more events


class Connection(WebSocketConnection):
    """A connection that knows its session."""

    __slots__ = ("session",)
    session: Session


class Session:
    """One WebSocket of an application, from its request to its end.

    Args:
        head: Of the request.
        offer: What the client offers.
        hub: Serves the connection once it is accepted; made by `hub_of`.
        deflate: How it compresses; None: not at all.
        max_queue: Messages that may wait for the application; with more, no more is read.
        headers: Of each response that accepts.
        early: What the client has sent behind its request.
        tell: Is called with what has become of the request, for the log: "[accepted]", "403".

    Attributes:
        stage: How far it is.
        protocol: Of its connection: set before the application is called, and None once that has gone.
    """

    __slots__ = (
        "_connection",
        "_deflate",
        "_denial",
        "_drained",
        "_early",
        "_head",
        "_headers",
        "_hub",
        "_max_queue",
        "_offer",
        "_queue",
        "_room",
        "_size",
        "_tell",
        "protocol",
        "stage",
    )

    def __init__(
        self,
        head: RequestHead,
        offer: Offer,
        hub: Hub,
        deflate: Deflate | None,
        max_queue: int,
        headers: Iterable[Field],
        early: bytes,
        tell: Callable[[str], None],
    ) -> None:
        self._head = head
        self._offer = offer
        self._hub = hub
        self._deflate = deflate
        self._max_queue = max_queue
        self._headers = headers
        self._tell = tell
        self._connection: Connection | None = None
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._queue.put_nowait({"type": "websocket.connect"})
        self._early = early
        self._room: asyncio.Future[None] | None = None  # done once the application has received enough
        self._drained: asyncio.Event | None = None  # set once the client has taken what waited for it
        self._denial: tuple[int, list[tuple[str, str]], bytearray] | None = None
        self._size = 0  # bytes of memory that the messages in the queue take
        self.protocol: Protocol | None = None
        self.stage = Stage.CONNECTING

    # ---- What the application calls ------------------------------------------------------------------------------

    async def receive(self) -> Event:
        """Return the next event. Behind the end there is nothing but the end."""
        event = await self._queue.get()
        if event["type"] == "websocket.disconnect":
            self._queue.put_nowait(event)
        elif event["type"] == "websocket.receive":
            self._size -= _size_of(event)
            if self._queue.qsize() <= self._max_queue // 2 and self._size <= MUCH // 2:
                self._make_room()
        return event

    async def send(self, event: Event) -> None:
        """Take an event of the application's, and wait while its client is behind.

        Raises:
            ClientDisconnected: There is no client any more.
            RuntimeError: It is not due. TypeError, ValueError: it is malformed.
        """
        kind = event["type"]
        if self.stage is Stage.OPEN:
            if kind == "websocket.send":
                await self._send_message(event)
            elif kind == "websocket.close":
                self._close(event.get("code", 1000), event.get("reason") or "")
            else:
                raise _not_due(kind, "'websocket.send' or 'websocket.close'")
        elif self.stage is Stage.CONNECTING:
            self._answer(kind, event)
        elif self.stage is Stage.ANSWERING:
            self._go_on_answering(kind, event)
        elif self.stage is Stage.GONE:
            if kind != "websocket.close":  # which comes about, as the application wants
                raise ClientDisconnected("the client has gone")
        elif self.stage is Stage.MOUNTED:
            raise RuntimeError(f"Unexpected ASGI message '{kind}': a WebSocketServer has the connection.")
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")

    async def _send_message(self, event: Event) -> None:
        connection = self._connection
        assert connection is not None
        data, text = event.get("bytes"), event.get("text")
        if data is not None:
            sent = connection.send_binary(data)
        elif text is not None:
            sent = connection.send(text)
        else:
            raise ValueError("a 'websocket.send' has neither bytes nor text")
        if not sent:
            raise ClientDisconnected("the client has gone")
        if connection.buffered > BEHIND:
            await self._taken(connection, BEHIND)

    async def _taken(self, connection: Connection, most: int) -> None:
        """Wait until no more than so many bytes wait for the client."""
        while connection.buffered > most and self._connection is not None:
            if self._drained is None:
                self._drained = asyncio.Event()
            self._drained.clear()
            await self._drained.wait()

    def _close(self, code: int, reason: str) -> None:
        assert self._connection is not None
        self._connection.close(code, reason)
        self._end(Stage.CLOSED, {"code": code, "reason": reason})

    # ---- Before it is accepted -----------------------------------------------------------------------------------

    def _answer(self, kind: str, event: Event) -> None:
        """Take the application's first event."""
        if kind == "websocket.accept":
            self._accept(event.get("subprotocol"), event.get("headers") or ())
        elif kind == "websocket.close":
            self._tell("403")
            self._refuse(Response(status=403))
        elif kind == "websocket.http.response.start":
            status = event["status"]
            if not 200 <= status < 600:
                raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
            headers = [(_text(name), _text(value)) for name, value in event.get("headers") or ()]
            headers = [each for each in headers if each[0].lower() not in FRAMING]
            Response(b"", status, headers)  # raises for what can not be sent
            self._denial = status, headers, bytearray()
            self.stage = Stage.ANSWERING
            self._tell(str(status))
        else:
            raise _not_due(kind, "'websocket.accept', 'websocket.close' or 'websocket.http.response.start'")

    def _go_on_answering(self, kind: str, event: Event) -> None:
        assert self._denial is not None
        if kind != "websocket.http.response.body":
            raise _not_due(kind, "'websocket.http.response.body'")
        self._denial[2].extend(event.get("body") or b"")
        if not event.get("more_body"):
            self._deny()

    def _accept(self, subprotocol: str | None, headers: Iterable[Field]) -> None:
        own = [(_text(name), _text(value)) for name, value in headers]
        for name, value in own:  # some applications name it there
            if name.lower() == "sec-websocket-protocol":
                subprotocol = subprotocol or value
        more = [each for each in own if each[0].lower() != "sec-websocket-protocol"]
        response, agreed = self._offer.accept(subprotocol or None, [*self._headers, *more], self._deflate)
        protocol = self.protocol
        assert protocol is not None
        transport = protocol.transport
        connection = Connection(self._head.raw, transport, scheme_of(transport, False), subprotocol or None)
        connection.session = self
        connection._may_refer_to_itself()
        self._connection = connection
        self.stage = Stage.OPEN
        early, self._early = self._early, b""
        self._tell("[accepted]")
        if len(early) > MOST_EARLY:
            protocol.resume_reading()
        protocol.upgrade(connection, self._hub, response, early, agreed)

    def _deny(self) -> None:
        """Send the denial response, as it is."""
        assert self._denial is not None
        status, headers, body = self._denial
        self._refuse(Response(body, status, headers))

    def _refuse(self, response: Response) -> None:
        """Answer with a response that opens nothing."""
        protocol = self.protocol
        assert protocol is not None
        self._end(Stage.CLOSED, {"code": 1006})
        protocol.transport.write(serialize(response, head_only=False, keep_alive=False))
        protocol.close_opening()

    def give(self) -> tuple[RequestHead, bytes]:
        """Give the connection away, to a WebSocketServer that answers the request: its head, and what is behind it.

        Raises:
            RuntimeError: The application has answered already.
        """
        if self.stage is not Stage.CONNECTING:
            raise RuntimeError("the request is answered already, and no WebSocketServer can take it over")
        if len(self._early) > MOST_EARLY and self.protocol is not None:
            self.protocol.resume_reading()
        self.stage, self.protocol = Stage.MOUNTED, None
        self._queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        return self._head, self._early

    # ---- The end ---------------------------------------------------------------------------------------------------

    def _end(self, stage: Stage, disconnect: Event) -> None:
        """Have the application hear of the end, unless it has."""
        if self.stage in (Stage.CLOSED, Stage.GONE, Stage.MOUNTED):
            return
        self.stage = stage
        self._queue.put_nowait({"type": "websocket.disconnect", **disconnect})
        self._make_room()
        self._has_drained()

    async def finish(self) -> None:
        """End what the application has left open, when it has returned or raised. An open connection is closed without
        a close frame, but not before the system has taken what was sent."""
        if self.stage is Stage.CONNECTING:
            self._refuse(INTERNAL_ERROR)
        elif self.stage is Stage.ANSWERING:
            assert self._denial is not None
            if self._denial[2]:  # what has come of the content is not all of it
                self._refuse(INTERNAL_ERROR)
            else:
                self._deny()
        elif self.stage is Stage.OPEN:
            connection = self._connection
            assert connection is not None
            self._end(Stage.CLOSED, {"code": 1006})
            await asyncio.sleep(0)  # what was sent leaves with the turn
            await self._taken(connection, 0)
            if self.protocol is not None and self.protocol.transport is not None:
                self.protocol.transport.close()

    def cut(self) -> None:
        """End it at once: its application was cancelled."""
        self._end(Stage.GONE, {"code": 1006})
        if self.protocol is not None:
            self.protocol.end_now()

    def shutdown(self) -> None:
        """End it: the server is about to. A client that does not answer is not waited for."""
        protocol = self.protocol
        assert protocol is not None
        if self.stage is Stage.OPEN:
            self._end(Stage.GONE, {"code": 1012})
            protocol.stop(1012, "")
            asyncio.get_running_loop().call_later(LAST_WAIT, self.cut)
        elif self.stage in (Stage.CONNECTING, Stage.ANSWERING):
            self._refuse(INTERNAL_ERROR)
        if protocol.transport is not None and self._connection is None:
            protocol.transport.close()

    def left(self) -> None:
        """Learn that the connection is lost: what came before that is no longer held back."""
        self._make_room()

    # ---- What the connection tells, once it is open --------------------------------------------------------------

    def _heard(self, event: Event) -> asyncio.Future[None] | None:
        """Queue a message. Returns what has to be awaited before the next one, if too much waits."""
        if self.stage is not Stage.OPEN:
            return None
        self._queue.put_nowait(event)
        self._size += _size_of(event)
        if self._queue.qsize() <= self._max_queue and self._size <= MUCH:
            return None
        if self.protocol is None or self.protocol.transport is None:  # no more will come
            return None
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    def _make_room(self) -> None:
        """Have more messages read."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def _has_drained(self) -> None:
        """Have those look again that wait for the client."""
        if self._drained is not None:
            self._drained.set()

    def _closed(self, code: int, reason: str) -> None:
        self._connection = None
        self._has_drained()
        self._end(Stage.GONE, {"code": code} if code == 1006 else {"code": code, "reason": reason})

    # ---- What it is asked as the connection's opening ------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Keep bytes behind the request: frames that can not be read before it is accepted."""
        self._early += data
        if self.protocol is not None:  # else the connection is yet to be taken over, and is not read
            self.protocol.holds(len(self._early))
            if len(self._early) > MOST_EARLY:
                self.protocol.pause_reading()

    def eof_received(self) -> bool:
        """A WebSocket can not be half open: the client has left."""
        return False

    def left_by_client(self) -> bool:
        """Have what is unread read, and with it the end."""
        return True

    def resume_writing(self) -> None:
        """Nothing waits here: a response is sent at once."""

    def timed_out(self) -> None:
        """Nothing is awaited for a time: the application may take as long as it likes."""

    def overhead(self, size: int) -> None:
        """Nothing: crest's own TLS, which tells of this, is not used here."""

    def shed(self, reason: str) -> None:
        """Refuse the request: others need the memory."""
        self._early = b""
        self._tell("503")
        self._refuse(error_response(HandshakeError(503, reason)))

    def connection_lost(self) -> None:
        """Learn that the client has gone, before the application has accepted."""
        self._end(Stage.GONE, {"code": 1006})


def _size_of(event: Event) -> int:
    """Count the bytes of memory that a message takes."""
    return getsizeof(event["text"] if "text" in event else event["bytes"])


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else bytes(value).decode("latin-1")


def _not_due(kind: str, expected: str) -> RuntimeError:
    return RuntimeError(f"Expected ASGI message {expected} but got '{kind}'.")


# ---- The handlers of a hub -------------------------------------------------------------------------------------------


def _on_message(connection: Connection, text: str) -> asyncio.Future[None] | None:
    return connection.session._heard({"type": "websocket.receive", "text": text})


def _on_binary(connection: Connection, data: bytes) -> asyncio.Future[None] | None:
    return connection.session._heard({"type": "websocket.receive", "bytes": data})


def _on_close(connection: Connection, code: int, reason: str) -> None:
    connection.session._closed(code, reason)


def _on_drain(connection: Connection) -> None:
    connection.session._has_drained()


def hub_of(**options: Any) -> Hub:
    """Make a hub whose connections tell their sessions what comes; the options are those of `Hub`."""
    hub = Hub(**options)
    hub.register("on_message", _on_message)
    hub.register("on_binary", _on_binary)
    hub.register("on_close", _on_close)
    hub.register("on_drain", _on_drain)
    hub.drains_at_once = True  # behind messages, it would wait for an application that waits for it
    return hub
