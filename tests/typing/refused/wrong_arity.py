"""Handlers with too few parameters or too many."""

from crest import App, Request, WebSocketConnection, WebSocketServer

app = App()
ws = WebSocketServer()


@ws.on_connect  # refused
def connected() -> None: ...


@ws.on_message  # refused
def received(message: str) -> None: ...


@ws.on_message  # refused
async def received_later(conn: WebSocketConnection) -> None: ...


@ws.on_close  # refused
def closed(conn: WebSocketConnection) -> None: ...


@ws.on_drain  # refused
def drained(conn: WebSocketConnection, size: int) -> None: ...


@ws.on_upgrade  # refused
def authenticate(conn: WebSocketConnection, request: Request) -> None: ...


@app.get("/")  # refused
def page() -> str:
    return "page"


class Game(WebSocketServer):
    def received(self, conn: WebSocketConnection, message: str) -> None: ...


def said(prefix: str, conn: WebSocketConnection, message: str) -> None: ...


ws.on_message(Game.received)  # refused
ws.on_message(lambda conn: None)  # refused
ws.on_message(said)  # refused
app.run()
