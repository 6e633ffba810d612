"""Decorators that register nothing."""

from crest import App, Request, WebSocketConnection, WebSocketServer

app = App()
ws = WebSocketServer()

ws.on_message()  # refused
ws.on_connect("connected")  # refused
ws.on_close(None)  # refused
app.get()  # refused


@app.get  # refused
def page(request: Request) -> str:
    return "page"


@WebSocketServer.on_connect  # refused
def connected(conn: WebSocketConnection) -> None: ...


app.get("/")("page")  # refused
app.run()
