"""A websockets server for `load`: `websockets_server.py PORT MODE`. The asyncio implementation on uvloop."""

import sys
from contextlib import suppress

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

port, mode = int(sys.argv[1]), sys.argv[2]
connections: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    with suppress(ConnectionClosed):  # a traceback for each reset connection would count as its cost
        async for message in connection:
            await connection.send(message)


async def send_to_all(connection: ServerConnection) -> None:
    connections.add(connection)
    with suppress(ConnectionClosed):
        async for message in connection:
            broadcast(connections, message)
    connections.discard(connection)


async def main() -> None:
    handler = send_to_all if mode == "bcast" else echo
    async with serve(handler, "127.0.0.1", port, compression=None, max_size=None) as server:
        await server.serve_forever()


uvloop.run(main())
