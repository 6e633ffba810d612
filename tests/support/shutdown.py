"""A shutdown that closes one connection now and the others when it is hurried, and what it logs."""

import asyncio
import re
from typing import Any

import pytest

from crest import App
from crest.listening.listener import Listener
from support.client import Client, close_frame

ENDLESS = 1e6
"""Seconds that no test waits for."""


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "crest"]


async def never(*args: Any) -> None:
    await asyncio.Event().wait()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged behind the address, without the time that it took."""
    return [re.sub(r"after \d+\.\d s", "after # s", message) for message in messages(caplog)[1:]]


async def begun(server: Listener, first: Client) -> asyncio.Task[None]:
    """A shutdown that closes a connection now, and the others only when it is hurried."""
    stopping = asyncio.create_task(server.stop())
    assert (await first.frame()).code == 1012
    await first.send(close_frame(1012))
    return stopping


def paced(**options: Any) -> App:
    return App(**{"close_rate": 0.001, "shutdown_timeout": ENDLESS, **options})
