"""Methods of all kinds, objects that can be called, partial functions, and a server's subclass that has its own."""

from functools import partial

from crest import App, Request, WebSocketConnection, WebSocketServer


class Room:
    def __init__(self, ws: WebSocketServer) -> None:
        ws.on_connect(self.entered)
        ws.on_message(self)
        ws.on_binary(self.received)
        ws.on_close(self.left)
        ws.on_drain(self.drained)

    def __call__(self, conn: WebSocketConnection, message: str) -> None: ...

    def entered(self, conn: WebSocketConnection) -> None: ...

    async def received(self, conn: WebSocketConnection, data: bytes) -> None: ...

    @staticmethod
    def left(conn: WebSocketConnection, code: int, reason: str) -> None: ...

    @classmethod
    def drained(cls, conn: WebSocketConnection) -> None: ...

    def page(self, request: Request) -> bytes:
        return b"page"


class Game(WebSocketServer):
    def __init__(self, level: int) -> None:
        super().__init__("/game", max_queue=level)
        self.on_message(self.played)

    def played(self, conn: WebSocketConnection, move: str) -> None:
        self.broadcast(move, key=conn.get_id())


def said(prefix: str, conn: WebSocketConnection, message: str) -> None:
    conn.send(prefix + message)


app = App()
ws = WebSocketServer()
game = Game(level=1)
room = Room(ws)
app.get("/")(room.page)
ws.on_message(partial(said, "You said: "))
game.on_message(game.played)
app.mount("/play", game)
app.run()
