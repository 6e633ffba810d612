"""`async def`, for everything."""

from crest import App, ErrorText, Request, WebSocketConnection, WebSocketServer

app = App()
ws = WebSocketServer()


@ws.on_upgrade
async def authenticate(request: Request) -> dict[str, str] | None:
    return {"name": request.path}


@ws.on_connect
async def connected(conn: WebSocketConnection) -> None:
    print(conn.user)


@ws.on_message
async def received(conn: WebSocketConnection, message: str) -> None:
    conn.send(message)


@ws.on_binary
async def received_binary(conn: WebSocketConnection, data: bytes) -> bool:
    return conn.send_binary(data)


@ws.on_close
async def closed(conn: WebSocketConnection, code: int, reason: str) -> None:
    print(code, reason)


@ws.on_error
async def failed(conn: WebSocketConnection, error: ErrorText) -> None:
    print(error.exception)


@ws.on_drain
async def drained(conn: WebSocketConnection) -> None:
    conn.send("go on")


@app.get("/")
async def page(request: Request) -> str:
    await received(ws.get_connections()[0], message="it has the type that it was written with")
    return "page"


app.run()
