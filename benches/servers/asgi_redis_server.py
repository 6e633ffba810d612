"""An ASGI server with workers and Redis between them, for `load`: `asgi_redis_server.py uvicorn|granian PORT bcast-2`.

Each worker publishes what it receives to a channel of Redis, and sends what comes from there to its own clients: what
the documents of ASGI's frameworks advise. Redis is started beside it, at a socket of its own, and ends with it.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time

import redis.asyncio

CHANNEL = "all"
senders = set()


def server_of(url):
    return redis.asyncio.Redis(unix_socket_path=url)


async def hear(broker):
    channel = broker.pubsub(ignore_subscribe_messages=True)
    await channel.subscribe(CHANNEL)
    async for message in channel.listen():
        text = message["data"].decode()
        for each in tuple(senders):
            await each({"type": "websocket.send", "text": text})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        app.broker = server_of(os.environ["REDIS_SOCKET"])
        app.hearing = asyncio.create_task(hear(app.broker))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    senders.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            await app.broker.publish(CHANNEL, event["text"])
    finally:
        senders.discard(send)


def serve_by_uvicorn(port, workers):
    import uvicorn

    uvicorn.run(
        "asgi_redis_server:app",
        host="127.0.0.1",
        port=port,
        workers=workers,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
    )


def serve_by_granian(port, workers):
    from granian import Granian
    from granian.constants import Interfaces, Loops

    Granian(
        "asgi_redis_server:app",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=workers,
        log_enabled=False,
    ).serve()


def main():
    kind, port, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    os.chdir(os.path.dirname(os.path.abspath(__file__)))  # where workers find the app
    with tempfile.TemporaryDirectory() as folder:
        path = os.environ["REDIS_SOCKET"] = os.path.join(folder, "redis.sock")
        command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        broker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not os.path.exists(path):
                time.sleep(0.01)
            {"uvicorn": serve_by_uvicorn, "granian": serve_by_granian}[kind](port, int(mode.partition("-")[2]))
        finally:
            broker.terminate()
            broker.wait()


if __name__ == "__main__":
    main()
