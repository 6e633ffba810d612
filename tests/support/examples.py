"""The examples as processes of their own: PORT=0, and the log says the port. And the messages of those that chat."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.client import GUARD, Client, request

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass
class Example:
    """A running example: where it listens, and what it has written once it has ended."""

    host: str
    port: int
    stdout: str = ""
    stderr: str = ""


@asynccontextmanager
async def running(name: str, port: int = 0, code: int = 0) -> AsyncIterator[Example]:
    """Start an example; at the end terminate it, and see that it ends well, with this code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / f"{name}.py"),
        env={**os.environ, "HOST": "127.0.0.1", "PORT": str(port)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        listening, text = None, ""
        async with asyncio.timeout(GUARD):
            while listening is None:
                line = (await process.stderr.readline()).decode()
                assert line, text
                text += line
                listening = re.search(r"(?:Listening|running) on http://([\d.]+):(\d+) ", line)
        example = Example(listening[1], int(listening[2]))
        yield example
        process.terminate()
        async with asyncio.timeout(GUARD):
            stdout, stderr = await process.communicate()
        example.stdout, example.stderr = stdout.decode(), stderr.decode()
        assert process.returncode == code, example.stderr
        assert "Traceback" not in example.stderr and "ERROR" not in example.stderr
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario, which ends or fails."""

    async def main() -> None:
        async with asyncio.timeout(3 * GUARD):
            await scenario()

    asyncio.run(main())


async def page_of(client: Client) -> bytes:
    """The page at `/`."""
    await client.send(request("/"))
    answer = await client.answer()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return answer.body


async def said(client: Any) -> Any:
    """The next message, without its time."""
    data = json.loads(await client.recv())
    assert data.pop("time", 1_700_000_000) >= 1_700_000_000
    return data


async def say(client: Any, **fields: object) -> None:
    """Send a message."""
    await client.send(json.dumps(fields))


def joined(name: str, back: bool = False) -> dict[str, object]:
    """The message that someone has joined."""
    return {"type": "join", "user": name, "back": back}


def gone(name: str, restart: bool = False) -> dict[str, object]:
    """The message that someone has left."""
    return {"type": "leave", "user": name, "restart": restart}
