"""A server that pings, its peers, and time that passes for both."""

from support.client import PING
from support.link import Link, Scene

INTERVAL, TIMEOUT = 20, 10
LATE = 0.06
"""Seconds: a tick of the clock, and its rounding."""


def pass_time(stage: Scene, seconds: float) -> None:
    """Let time pass, timers firing in time."""
    end = stage.loop.clock + seconds
    while stage.loop.clock < end:
        stage.loop.advance(min(0.05, end - stage.loop.clock))


def pings(link: Link) -> list[bytes]:
    """Payloads of the pings that the peer got since; it got nothing else."""
    link.read_all()
    frames = link.frames()
    assert all(each.opcode == PING for each in frames), frames
    return [each.payload for each in frames]


def ping_timed_out(stage: Scene, link: Link) -> bool:
    text = f"ping timeout: nothing came for {TIMEOUT} s"
    seen = stage.seen(link)
    assert seen in ([], [("error", text), ("close", 1011, text)])
    return bool(seen)
