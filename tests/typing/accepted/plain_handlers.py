"""Plain functions, as the guide writes them, and what else is one."""

from crest import App, ErrorText, Reject, Request, WebSocketConnection, WebSocketServer

app = App()
ws = WebSocketServer()


@ws.on_upgrade
def authenticate(request: Request) -> str:
    if "token" not in request.query:
        raise Reject(401)
    return request.query["token"]


@ws.on_connect
@ws.on_drain
def connected(conn: WebSocketConnection) -> None:
    print(conn.user)


@ws.on_message
def received(conn: WebSocketConnection, message: str) -> bool:
    return conn.send(message)  # what a handler returns is ignored


@ws.on_binary
def received_binary(conn: WebSocketConnection, data: bytes, more: int = 0) -> None:
    conn.send_binary(data)


@ws.on_close
def closed(conn: object, code: int, reason: str) -> None:
    print(code, reason)


@ws.on_error
def failed(conn: WebSocketConnection, error: ErrorText) -> None:
    print(error.exception)


def failed_too(conn: WebSocketConnection, error: str) -> None:
    print(error)


ws.on_error(failed_too)
app.run()
