"""All that a page may be."""

from typing import TypedDict

from crest import App, Request, Response, WebSocketServer


class Health(TypedDict):
    connections: int


app = App()
ws = WebSocketServer()


@app.get("/text")
def text(request: Request) -> str:
    return request.path


@app.get("/bytes")
async def binary(request: Request) -> bytes | bytearray | memoryview:
    return b"bytes"


@app.get("/health")
def health(request: Request) -> Health:
    return {"connections": ws.connection_count()}


@app.get("/refused")
async def refused(request: Request) -> dict[str, int]:
    return ws.refused


@app.get("/either")
async def either(request: Request) -> str | Response | dict[int, object]:
    return Response("no such thing", 404)


app.run()
