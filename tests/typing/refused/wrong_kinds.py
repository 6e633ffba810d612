"""Bytes where there is text, text where there are bytes, and other wrong parameters."""

from functools import partial

from crest import App, Request, WebSocketConnection, WebSocketServer

app = App()
ws = WebSocketServer()


@ws.on_message  # refused
def received(conn: WebSocketConnection, message: bytes) -> None: ...


@ws.on_binary  # refused
async def received_binary(conn: WebSocketConnection, data: str) -> None: ...


@ws.on_close  # refused
def closed(conn: WebSocketConnection, reason: str, code: int) -> None: ...


@ws.on_error  # refused
def failed(conn: WebSocketConnection, error: Exception) -> None: ...


@ws.on_connect  # refused
def connected(request: Request) -> None: ...


@ws.on_upgrade  # refused
def authenticate(conn: WebSocketConnection) -> None: ...


@app.get("/")  # refused
def page(conn: WebSocketConnection) -> str:
    return "page"


def said(prefix: str, conn: WebSocketConnection, message: str) -> None: ...


ws.on_message(partial(said, b"You said: "))  # refused
app.run()
