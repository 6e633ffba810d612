"""crest.cluster.control: messages between processes, with descriptors."""

import asyncio
import os
import socket
from typing import Any

import pytest
from support.events import Events, on_each_loop

from crest.cluster.control import Control, Message


class Ends:
    """Both ends of a pair, and what each hears."""

    def __init__(self) -> None:
        self.heard = Events()
        self.gone = Events()
        first, second = socket.socketpair()
        self.first = Control(first, self._ignore, lambda: self.gone.add("first"))
        self.second = Control(second, self._hear, lambda: self.gone.add("second"))

    def _ignore(self, message: Message, descriptors: list[int]) -> None:
        raise AssertionError(message)

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        self.heard.add((message, descriptors))

    def close(self) -> None:
        self.first.close()
        self.second.close()


@on_each_loop
async def test_messages_come_whole_and_in_order() -> None:
    ends = Ends()
    sent: list[dict[str, Any]] = [{"number": number, "text": "ü" * (number * 1000)} for number in range(200)]
    for message in sent:  # more than the kernel takes at once
        ends.first.send(message)
    heard = await ends.heard.reach(len(sent))
    assert [message for message, _ in heard] == sent
    ends.close()


@on_each_loop
async def test_descriptors_come_with_their_message() -> None:
    ends = Ends()
    pipes = [os.pipe() for _ in range(40)]
    for number, (_, written) in enumerate(pipes):
        ends.first.send({"number": number}, *([written] if number % 3 else []))
        ends.first.send({"between": "x" * 5000})
    heard = await ends.heard.reach(2 * len(pipes))
    for message, descriptors in heard:
        number = message.get("number", 0)
        assert len(descriptors) == bool(number % 3)
        for descriptor in descriptors:
            assert not os.get_inheritable(descriptor)
            os.write(descriptor, b"%d" % number)
            os.close(descriptor)
            assert os.read(pipes[number][0], 10) == b"%d" % number
    for pair in pipes:  # the sender's own are as they were
        for each in pair:
            os.close(each)
    ends.close()


@on_each_loop
async def test_the_end_of_the_other_is_told_once_and_behind_its_messages() -> None:
    ends = Ends()
    ends.first.send({"last": True})
    ends.first.close()
    await ends.gone.reach(1)
    assert ends.gone.seen == ["second"]
    assert [message for message, _ in ends.heard.seen] == [{"last": True}]
    assert ends.second.closed
    ends.second.send({"in": "vain"})
    ends.close()
    assert ends.gone.seen == ["second"]


@on_each_loop
async def test_a_message_that_can_not_be_handled_is_logged_and_others_are(caplog: pytest.LogCaptureFixture) -> None:
    first, second = socket.socketpair()
    heard = Events()

    def hear(message: Message, descriptors: list[int]) -> None:
        heard.add(message)
        if message == {"bad": True}:
            raise ValueError

    one, other = Control(first, hear, lambda: None), Control(second, hear, lambda: None)
    one.send({"bad": True})
    one.send({"good": True})
    await heard.reach(2)
    assert "could not be handled: {'bad': True}" in caplog.text
    one.close()
    other.close()


@on_each_loop
async def test_closing_closes_descriptors_that_were_not_sent() -> None:
    ends = Ends()
    read, written = os.pipe()
    ends.first.send({"much": "x" * 10_000_000})
    ends.first.send({"never": "sent"}, written)
    os.close(written)
    ends.close()
    assert os.read(read, 1) == b""  # no other end is open
    os.close(read)
    await asyncio.sleep(0)


@on_each_loop
async def test_what_is_sent_to_an_end_that_is_gone_ends_this_one_too() -> None:
    ends = Ends()
    ends.second.close()
    ends.first.send({"number": 1}, 0)
    assert await ends.gone.reach(1) == ["first"] and ends.first.closed
    ends.first.send({"number": 2})
    ends.close()


@on_each_loop
async def test_an_end_that_is_closed_by_a_message_hears_no_more() -> None:
    ends = Ends()
    heard: list[Message] = []

    def hear(message: Message, descriptors: list[int]) -> None:
        heard.append(message)
        ends.second.close()
        ends.heard.add(message)

    ends.second._received = hear
    for number in range(3):
        ends.first.send({"number": number})
    await ends.heard.reach(1)
    assert heard == [{"number": 0}]
    ends.close()
