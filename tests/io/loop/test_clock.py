"""crest.io.loop.clock: deadlines are never early, cost the loop one timer, and none stops another."""

import asyncio
import gc
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Run
from support.loop import Loop

from crest.io.loop.clock import Clock, Deadline

LATE = 0.05 + 0.002
"""Seconds that a deadline may be late: a tick, and what loops round."""


class CountingLoop(Loop):
    """Counts the timers that were ever set."""

    count = 0

    def call_later(self, *args: Any, **options: Any) -> asyncio.TimerHandle:
        self.count += 1
        return super().call_later(*args, **options)


class Alarm(Deadline):
    """A deadline that calls a function."""

    def __init__(self, ring: Callable[[], object]) -> None:
        self.ring = ring

    def expired(self) -> None:
        self.ring()


class Bench:
    """A clock on a loop whose time passes when the test says so; `log` has what expired, and when."""

    def __init__(self) -> None:
        self.loop = CountingLoop()
        self.clock = Clock(self.loop, self.loop.time)
        self.begun = self.loop.time()
        self.log: list[tuple[object, float]] = []

    def now(self) -> float:
        """Seconds since the test began."""
        return self.loop.time() - self.begun

    def alarm(self, name: object = "", seconds: float | None = None) -> Alarm:
        made = Alarm(lambda: self.log.append((name, self.now())))
        if seconds is not None:
            self.clock.start(made, seconds)
        return made

    def advance(self, seconds: float) -> None:
        """Let time pass, each timer firing just when it is due."""
        end = self.now() + seconds
        while due := [wait for wait in self.loop.pending() if self.now() + wait <= end]:
            self.loop.advance(max(min(due), 0))
        self.loop.advance(end - self.now())


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.loop.close()


def test_a_loop_is_needed() -> None:
    with pytest.raises(TypeError):
        Clock(None)  # type: ignore[arg-type]


def test_a_deadline_says_what_happens(bench: Bench) -> None:
    with pytest.raises(NotImplementedError):
        Deadline().expired()


def test_a_deadline_expires_once(bench: Bench) -> None:
    alarm = bench.alarm("it", 3)
    assert bench.clock.pending() == [3]
    bench.advance(2.999)
    assert bench.log == []
    bench.advance(100)
    ((name, at),) = bench.log
    assert name == "it" and 3 <= at <= 3 + LATE
    assert bench.clock.pending() == bench.loop.pending() == []
    bench.clock.cancel(alarm)


def test_a_cancelled_deadline_does_not_expire(bench: Bench) -> None:
    alarm = bench.alarm("it", 3)
    bench.clock.cancel(alarm)
    bench.clock.cancel(alarm)
    bench.clock.cancel(bench.alarm())
    assert bench.clock.pending() == []
    bench.advance(100)
    assert bench.log == bench.loop.pending() == []


def test_to_start_again_is_to_begin_anew(bench: Bench) -> None:
    alarm = bench.alarm("it", 3)
    bench.advance(2)
    bench.clock.start(alarm, 3)
    bench.advance(2.9)
    assert bench.log == []
    bench.clock.start(alarm, 1)
    bench.advance(100)
    ((_, at),) = bench.log
    assert 5.9 <= at <= 5.9 + LATE


def test_a_deadline_that_nobody_holds_does_not_expire(bench: Bench) -> None:
    alarms = [bench.alarm(i, 3) for i in range(3)]
    del alarms[1]
    gc.collect()
    bench.advance(4)
    assert [name for name, _ in bench.log] == [0, 2]


def test_deadlines_outlive_their_clock() -> None:
    bench = Bench()
    alarms = [bench.alarm(i, 3) for i in range(3)]
    bench.loop.close()
    del bench.clock, bench.loop.timers[:]
    gc.collect()
    other = Bench()
    other.clock.cancel(alarms[0])
    other.clock.start(alarms[1], 1)
    other.advance(2)
    assert [name for name, _ in bench.log] == [1]
    other.loop.close()


@pytest.mark.parametrize("seed", range(20))
def test_none_is_early_late_or_lost(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    alarms = [bench.alarm(i) for i in range(50)]
    wanted: dict[object, float] = {}
    count = 0
    for _ in range(2000):
        i = chance.randrange(len(alarms))
        if chance.random() < 0.5:
            seconds = chance.choice([0.001, 0.05, 0.3, 1, 1.01, 10])
            bench.clock.start(alarms[i], seconds)
            wanted[i] = bench.now() + seconds
        elif chance.random() < 0.5:
            bench.clock.cancel(alarms[i])
            wanted.pop(i, None)
        bench.advance(chance.choice([0, 0, 0.001, 0.02, 0.2]))
        for name, at in bench.log:
            due = wanted.pop(name)
            assert due <= at + 1e-9 and at <= due + LATE
            count += 1
        bench.log.clear()
        assert all(bench.now() <= due + LATE for due in wanted.values())
        assert len(bench.clock.pending()) == len(wanted)
    assert count > 100
    bench.advance(20)
    assert {name for name, _ in bench.log} == set(wanted)


# --- The loop's timer


def test_many_deadlines_cost_one_timer(bench: Bench) -> None:
    alarms = [bench.alarm(i, 10) for i in range(1000)]
    for alarm in alarms[:-1]:
        bench.clock.cancel(alarm)
    assert bench.loop.count == 1
    bench.advance(11)
    assert [name for name, _ in bench.log] == [999]
    assert bench.loop.count == 1


def test_connections_that_come_and_go_cost_next_to_none(bench: Bench) -> None:
    for _ in range(1000):
        bench.clock.cancel(bench.alarm("", 10))
        bench.advance(0.1)
    assert bench.loop.count <= 11


def test_what_is_due_within_a_tick_is_served_together(bench: Bench) -> None:
    alarms = []
    for i in range(1000):
        alarms.append(bench.alarm(i, 2))
        bench.advance(0.001)
    bench.advance(3)
    assert [name for name, _ in bench.log] == list(range(1000))
    assert bench.loop.count <= 21


def test_a_shorter_deadline_does_not_wait_for_a_longer_one(bench: Bench) -> None:
    wanted = [10, 0.01, 5, 0.05, 1]
    alarms = [bench.alarm(seconds, seconds) for seconds in wanted]
    bench.advance(20)
    assert [name for name, _ in bench.log] == sorted(wanted)
    assert all(seconds <= at <= seconds + LATE for seconds, at in bench.log if isinstance(seconds, float | int))
    assert len(alarms) == 5


def test_stop_leaves_nothing_with_the_loop(bench: Bench) -> None:
    alarms = [bench.alarm(i, i) for i in range(1, 4)]
    bench.clock.stop()
    assert bench.clock.pending() == bench.loop.pending() == []
    bench.advance(10)
    assert bench.log == []
    bench.clock.start(alarms[0], 1)
    bench.advance(2)
    assert [name for name, _ in bench.log] == [1]
    bench.clock.stop()


# --- While deadlines are served


def test_what_one_does_to_others(bench: Bench) -> None:
    """Cancel, start and start again, one that is due at the same time among them."""
    others = [bench.alarm(i) for i in range(4)]

    def ring() -> None:
        bench.clock.cancel(others[0])
        bench.clock.start(others[1], 1)
        bench.clock.start(others[2], 7)
        bench.clock.start(first, 2)

    first = Alarm(ring)
    bench.clock.start(first, 1)
    for other in others:
        bench.clock.start(other, 1)
    bench.advance(2.2)
    assert [(name, round(at)) for name, at in bench.log] == [(3, 1), (1, 2)]
    assert [round(left) for left in bench.clock.pending()] == [1, 6]


def test_one_that_fails_stops_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no")

    failing = Alarm(fail)
    bench.clock.start(failing, 1)
    alarms = [bench.alarm(i, seconds) for i, seconds in enumerate((1, 2))]
    bench.advance(3)
    assert [name for name, _ in bench.log] == [0, 1]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("crest", logging.ERROR)
    assert record.exc_info and "no" in str(record.exc_info[1])
    assert len(alarms) == 2


def test_the_clock_survives_an_interrupt(bench: Bench) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    interrupting = Alarm(interrupt)
    bench.clock.start(interrupting, 1)
    alarms = [bench.alarm(i, seconds) for i, seconds in enumerate((1, 2))]
    with pytest.raises(KeyboardInterrupt):
        bench.advance(1.5)
    bench.advance(3)
    assert [name for name, _ in bench.log] == [0, 1]
    assert len(alarms) == 2


# --- On real loops


def test_never_early_on_a_real_loop(run: Run[None]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = Clock(loop)
        done = loop.create_future()
        alarm = Alarm(lambda: done.set_result(time.monotonic()))
        for seconds in (0.0001, 0.0014, 0.0106, 0.05):
            done = loop.create_future()
            begun = time.monotonic()
            clock.start(alarm, seconds)
            assert await done - begun >= seconds

    run(main())


def test_a_turn_that_lasts_makes_no_deadline_early(run: Run[None]) -> None:
    """uvloop's own time stands still meanwhile."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock, done = Clock(loop), loop.create_future()
        alarm = Alarm(lambda: done.set_result(time.monotonic()))
        await asyncio.sleep(0)
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        clock.start(alarm, 0.04)
        assert await done >= until + 0.04

    run(main())
