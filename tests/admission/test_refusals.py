"""crest.admission.refusals: one line a second and kind, and a count of the others."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from crest import HandshakeError
from crest.admission.refusals import PAUSE, RefusalLog

ERROR = HandshakeError(403, "not you")


class Loop:
    """Timers that a test ends."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, seconds: float, call: Callable[..., None], *args: Any) -> "Timer":
        assert seconds == PAUSE
        self.timers.append(Timer(lambda: call(*args)))
        return self.timers[-1]

    def turn(self) -> None:
        """A second is over."""
        due, self.timers = self.timers, []
        for timer in due:
            if not timer.cancelled:
                timer.call()


class Timer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def loop() -> Any:
    return Loop()


@pytest.fixture
def log(loop: Any, caplog: pytest.LogCaptureFixture) -> RefusalLog:
    caplog.set_level(logging.INFO, "crest")
    return RefusalLog(loop, Counter())


def test_one_line_a_second(log: RefusalLog, loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1000):
        log.add("origin", ("192.0.2.7", 1), ERROR)
    assert caplog.messages == ["Refused a request of ('192.0.2.7', 1): 403, not you"]
    loop.turn()
    assert caplog.messages[1:] == ["Refused 999 more like the last one (origin)"]
    log.add("origin", None, ERROR)
    assert len(caplog.messages) == 2
    loop.turn()
    assert caplog.messages[2:] == ["Refused 1 more like the last one (origin)"]
    loop.turn()
    assert loop.timers == []
    log.add("origin", None, ERROR)
    assert len(caplog.messages) == 4


def test_connections_are_counted_by_kind(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Those that are not logged, too; requests are counted by whoever refuses them."""
    caplog.set_level(logging.INFO, "crest")
    counter: Counter[str] = Counter()
    log = RefusalLog(loop, counter)
    for _ in range(3):
        log.add_connection("tls", ("192.0.2.7", 1), "no")
    log.add_connection("response", None, "no")
    log.add("origin", None, ERROR)
    assert counter == {"tls": 3, "response": 1}
    assert caplog.messages[0] == "Refused a connection of ('192.0.2.7', 1): no"


def test_each_kind_for_itself(log: RefusalLog, caplog: pytest.LogCaptureFixture) -> None:
    log.add("origin", None, ERROR)
    log.add("400", None, HandshakeError(400, "no key"))
    assert caplog.messages == ["Refused a request of None: 403, not you", "Refused a request of None: 400, no key"]


def test_the_end_loses_no_count(log: RefusalLog, loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        log.add("origin", None, ERROR)
    log.close()
    assert caplog.messages[1:] == ["Refused 2 more like the last one (origin)"]
    loop.turn()
    log.close()
    assert len(caplog.messages) == 2


def test_an_error_of_the_server_is_logged_with_its_traceback(log: RefusalLog, caplog: pytest.LogCaptureFixture) -> None:
    error = HandshakeError(500, "internal server error")
    error.__cause__ = ValueError("why")
    log.add("error", None, error)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None and record.exc_info[1] is error.__cause__


def test_a_reason_does_not_forge_a_line(log: RefusalLog, caplog: pytest.LogCaptureFixture) -> None:
    log.add("on_upgrade", None, HandshakeError(401, "no\nINFO forged"))
    assert caplog.messages == [r"Refused a request of None: 401, no\nINFO forged"]


def test_on_a_loop() -> None:
    async def main() -> None:
        log = RefusalLog(asyncio.get_running_loop(), Counter())
        log.add("origin", None, ERROR)
        log.close()

    asyncio.run(main())
