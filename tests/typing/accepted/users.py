"""A server that says what its users are: `conn.user` is one."""

from typing import Any, assert_type

from crest import App, Reject, Request, WebSocketConnection, WebSocketServer


class User:
    name = "Alice"


class Game(WebSocketServer[User]):
    pass


ws = WebSocketServer[User]()
game = Game("/game")
names: WebSocketServer[str | None] = WebSocketServer("/names")
anyone = WebSocketServer("/anyone")


@game.on_upgrade
@ws.on_upgrade
def authenticate(request: Request) -> User:
    if "user" not in request.cookies:
        raise Reject(401)
    return User()


@names.on_upgrade
async def name_of(request: Request) -> str | None:
    return request.cookies.get("name")


@ws.on_connect
def connected(conn: WebSocketConnection[User]) -> None:
    assert_type(conn.user, User)
    conn.user = User()


@anyone.on_connect
@ws.on_connect
def connected_too(conn: WebSocketConnection) -> None:
    assert_type(conn.user, Any)


App().run()
