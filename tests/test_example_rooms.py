"""The example with rooms, talked to by the `websockets` library; test_example_pages.py has its page."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from support.client import connect
from support.examples import gone, joined, play, running, said, say

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to end a program gracefully")


async def enter(client: Any, room: str, user: str, **fields: object) -> Any:
    """Join a room, and give what is told of it."""
    await say(client, type="join", room=room, user=user, **fields)
    while (data := await said(client))["type"] != "room":
        pass
    return data


async def told(client: Any) -> Any:
    """What comes next, but for the sizes of the rooms."""
    while (data := await said(client))["type"] == "rooms":
        pass
    return data


async def told_size(client: Any, room: str) -> int | None:
    while (data := await said(client))["type"] != "rooms":
        pass
    size: int | None = data["rooms"].get(room)
    return size


def test_rooms() -> None:
    async def scenario() -> None:
        async with running("rooms") as example, connect(example) as alice:
            assert await said(alice) == {"type": "rooms", "rooms": {"Lobby": 0, "Tea": 0, "Trains": 0}}
            assert (await enter(alice, " Tea ", "Alice"))["users"] == ["Alice"]
            assert await told(alice) == {**joined("Alice"), "room": "Tea"}
            async with connect(example) as bob, connect(example) as carol:
                assert await enter(bob, "Tea", "Bob", back=True) == {
                    "type": "room",
                    "room": "Tea",
                    "users": ["Alice", "Bob"],
                    "messages": [],
                }
                assert await told(alice) == await told(bob) == {**joined("Bob", back=True), "room": "Tea"}
                await enter(carol, "Trains", "Carol")
                await say(bob, type="typing", room="Tea")
                await say(bob, type="message", room="Tea", text=" Milk first? ")
                assert await told(alice) == {"type": "typing", "room": "Tea", "user": "Bob"}
                message = await told(alice)
                assert await told(bob) == message, "who types is not told of it"
                assert message.pop("id") > 1_700_000_000_000_000
                assert message == {"type": "message", "room": "Tea", "user": "Bob", "text": "Milk first?"}
                assert await told(carol) == {**joined("Carol"), "room": "Trains"}
                await say(bob, type="leave", room="Tea")
                assert await told(alice) == {**gone("Bob"), "room": "Tea"}
                await enter(carol, "Tea", "Carol")
                assert (await told(alice))["user"] == "Carol"
            assert await told(alice) == {**gone("Carol"), "room": "Tea"}
            assert await told_size(alice, "Trains") in (0, 1)

    play(scenario)


def test_rooms_remember_their_last_50_messages() -> None:
    async def scenario() -> None:
        async with running("rooms") as example:
            for half in range(2):
                async with connect(example) as client:
                    await enter(client, "Tea", "Alice")
                    for number in range(30):
                        await say(client, type="message", room="Tea", text=str(30 * half + number))
                    while (await said(client)).get("text") != str(30 * half + 29):
                        pass
            async with connect(example) as bob:
                messages = (await enter(bob, "Tea", "Bob"))["messages"]
                assert [each["text"] for each in messages] == [str(number) for number in range(10, 60)]
                assert [each["id"] for each in messages] == sorted({each["id"] for each in messages})
                assert (await enter(bob, "Trains", "Bob"))["messages"] == []

    play(scenario)


def test_empty_rooms_make_way_for_new_ones() -> None:
    async def scenario() -> None:
        async with running("rooms") as example, connect(example) as alice, connect(example) as bob:
            for number in range(17):
                await enter(alice, f"room {number}", "Alice")
            await say(bob, type="join", room="one more", user="Bob")
            while (answer := await told(bob))["type"] != "error":
                pass
            assert answer == {"type": "error", "text": "there are 20 rooms already", "room": "one more"}
            await say(alice, type="leave", room="room 3")
            while await told_size(bob, "room 3") != 0:
                pass
            await enter(bob, "one more", "Bob")
            assert await told_size(bob, "room 3") is None
            await enter(bob, "Tea", "Bob")

    play(scenario)


WRONG_IN_ROOMS = {
    "Hello": "a message must be JSON",
    "[]": "a message must be a JSON object",
    "{}": "'type' must be one of join, leave, message, typing",
    '{"type":["join"]}': "'type' must be one of join, leave, message, typing",
    '{"type":"__class__"}': "'type' must be one of join, leave, message, typing",
    '{"type":"join"}': "'room' must be a string",
    '{"type":"join","room":"Tea"}': "'user' must be a string",
    '{"type":"join","room":"Tea","user":"  "}': "'user' must have 1 to 32 characters",
    '{"type":"join","room":"Tea","user":"%s"}' % ("x" * 33): "'user' must have 1 to 32 characters",
    '{"type":"join","room":"%s","user":"x"}' % ("x" * 33): "'room' must have 1 to 32 characters",
    '{"type":"join","room":"a\\u0007b","user":"x"}': "'room' must not have control characters",
    '{"type":"join","room":"Tea","user":"\\ud800"}': "'user' must not have control characters",
    '{"type":"message","room":"Tea","text":"x"}': "you are not in Tea",
    '{"type":"message","room":"Nowhere","text":"x"}': "you are not in Nowhere",
    '{"type":"leave","room":"Tea"}': "you are not in Tea",
    '{"type":"typing","room":"Tea"}': "you are not in Tea",
    '{"type":"message","room":"Lobby"}': "'text' must be a string",
    '{"type":"message","room":"Lobby","text":"%s"}' % ("x" * 501): "'text' must have 1 to 500 characters",
    '{"type":"typing","room":7}': "'room' must be a string",
}


def test_rooms_answer_what_is_wrong_to_its_sender_only() -> None:
    async def scenario() -> None:
        async with running("rooms") as example, connect(example) as alice, connect(example) as bob:
            await enter(alice, "Lobby", "Alice")
            await enter(bob, "Lobby", "Bob")
            assert await told(bob) == {**joined("Bob"), "room": "Lobby"}
            for message, error in WRONG_IN_ROOMS.items():
                await bob.send(message)
                answer = await told(bob)
                assert (answer["type"], answer["text"]) == ("error", error), message[:40]
                assert answer["room"] is None or answer["room"] in json.loads(message)["room"]
            await say(bob, type="message", room="Lobby", text="\U0001f44d" * 500)
            assert (await told(bob))["type"] == "message"
            assert await told(alice) == {**joined("Alice"), "room": "Lobby"}
            assert await told(alice) == {**joined("Bob"), "room": "Lobby"}
            assert (await told(alice))["text"] == "\U0001f44d" * 500

    play(scenario)
