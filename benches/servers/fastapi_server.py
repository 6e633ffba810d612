"""A FastAPI server for `load`: `fastapi_server.py PORT rooms`.

Rooms are a dict of sets, as its users write them; served by uvicorn on uvloop, WebSockets by the sans-I/O core of
websockets.
"""

import sys
from collections import defaultdict
from itertools import cycle

import uvicorn
from fastapi import FastAPI, WebSocket

app = FastAPI()
rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)


@app.websocket("/ws")
async def talk(websocket: WebSocket) -> None:
    names = websocket.query_params["rooms"].split(",")
    await websocket.accept()
    for name in names:
        rooms[name].add(websocket)
    turns = cycle(names)
    try:
        async for message in websocket.iter_text():
            for each in tuple(rooms[next(turns)]):
                await each.send_text(message)
    finally:
        for name in names:
            rooms[name].discard(websocket)
            if not rooms[name]:
                del rooms[name]


uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    loop="uvloop",
    http="httptools",
    ws="websockets-sansio",
    ws_max_size=1 << 40,
    ws_per_message_deflate=False,
    lifespan="off",
    access_log=False,
    log_level="error",
)
