"""What on_upgrade returns, where the server says what its users are."""

from crest import App, Reject, Request, WebSocketConnection, WebSocketServer


class User: ...


ws = WebSocketServer[User]()


@ws.on_upgrade  # refused
def authenticate(request: Request) -> str:
    return "Alice"


@ws.on_upgrade  # refused
async def authenticate_later(request: Request) -> User | None:
    return None


@ws.on_upgrade  # refused
def refuse(request: Request) -> Reject:
    return Reject(401)  # it must be raised


@ws.on_upgrade  # refused
async def allow(request: Request) -> bool:
    return False  # to refuse is to raise Reject


@ws.on_connect
def connected(conn: WebSocketConnection[User]) -> None:
    conn.user = "Alice"  # refused


App().run()
