"""A uvicorn server for `load`: `uvicorn_server.py [WS] PORT MODE`.

Plain ASGI, without a framework, on uvloop and httptools. WebSockets are served by what uvicorn's `--ws` may name, by
default by the sans-I/O core of websockets.
"""

import sys

import uvicorn

*ws, port, mode = sys.argv[1:]
senders = set()


def answer(event):
    text = event.get("text")
    if text is not None:
        return {"type": "websocket.send", "text": text}
    return {"type": "websocket.send", "bytes": event["bytes"]}


async def echo(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send(answer(event))


async def send_to_all(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    senders.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            message = answer(event)
            for each in tuple(senders):
                await each(message)
    finally:
        senders.discard(send)


uvicorn.run(
    send_to_all if mode == "bcast" else echo,
    host="127.0.0.1",
    port=int(port),
    loop="uvloop",
    http="httptools",
    ws=ws[0] if ws else "websockets-sansio",
    ws_max_size=1 << 40,
    ws_per_message_deflate=False,
    lifespan="off",
    access_log=False,
    log_level="warning",
)
