"""What a message costs from one process to another by python-socketio's Redis manager, without clients.

`socketio_bus.py`, by the interpreter that has python-socketio and redis. One process emits as fast as it can, 64 bytes
of text, to all; another one has the same manager and takes them in. Prints messages a second, and the CPU time of
publisher, reader and redis-server in us a message: benches/workers.py has the same of crest.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import socketio

COUNT = 20_000
TEXT = "abcdefgh" * 8


def manager_at(path, count):
    """A manager that says when it has taken in so many."""
    manager = socketio.AsyncRedisManager(f"unix://{path}")
    seen = 0

    async def taken(message):
        nonlocal seen
        seen += 1
        if seen == count:
            print("done", flush=True)

    manager._handle_emit = taken
    return manager


async def read(path):
    server = socketio.AsyncServer(client_manager=manager_at(path, COUNT + 1), async_mode="asgi")
    server.manager.initialize()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def publish(path):
    server = socketio.AsyncServer(client_manager=socketio.AsyncRedisManager(f"unix://{path}", write_only=True),
                                  async_mode="asgi")  # fmt: skip
    await server.emit("message", TEXT)  # connects
    for _ in range(COUNT):
        await server.emit("message", TEXT)


def spent(process):
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e3


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "redis.sock")
        command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        broker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        reader = None
        try:
            while not os.path.exists(path):
                time.sleep(0.01)
            reader = subprocess.Popen([sys.executable, __file__, "read", path], stdout=subprocess.PIPE, text=True)
            assert reader.stdout is not None
            reader.stdout.readline()
            time.sleep(1)  # it has subscribed; what comes before that is lost
            before, start = [spent(reader), spent(broker)], time.perf_counter()
            publisher = os.times()
            asyncio.run(publish(path))
            reader.stdout.readline()
            seconds, after = time.perf_counter() - start, os.times()
            own = (after.user + after.system - publisher.user - publisher.system) * 1e6
            others = [now - then for now, then in zip([spent(reader), spent(broker)], before, strict=True)]
            print(json.dumps({
                "messages_per_second": round(COUNT / seconds),
                "cpu_us": [round(each / COUNT, 2) for each in (own, *others)],
            }))  # fmt: skip
        finally:
            for each in filter(None, (reader, broker)):
                each.kill()
                each.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(read(sys.argv[2]))
    else:
        main()
