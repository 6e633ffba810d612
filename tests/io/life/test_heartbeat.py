"""crest.io.life.heartbeat: the verdict on a peer, and when it may be another. No connection is needed for that."""

import random

import pytest

from crest.io.life.heartbeat import Verdict, due, judge

WRAP = 1 << 32
NEVER = WRAP - 1
INEXACT = 20
"""Milliseconds by which the clock may be late, and a verdict early."""


def pulse(heard: int = 0, spoke: int = 0, asked: int = 0) -> dict[str, int]:
    return {"heard": heard % WRAP, "spoke": spoke % WRAP, "asked": asked % WRAP}


def terms(interval: int = 0, timeout: int = 0, idle: int = 0) -> dict[str, int]:
    return {"interval": interval, "timeout": timeout, "idle": idle}


def test_without_terms_nothing_is_ever_due() -> None:
    assert judge(pulse(), terms(), 10**9) == Verdict.NOTHING
    assert due(pulse(), terms(), 10**9) == NEVER


@pytest.mark.parametrize("start", [0, 1, WRAP - 5000, WRAP - 1])
def test_a_silent_peer_is_asked_and_then_has_not_answered(start: int) -> None:
    """The clock's milliseconds begin anew after 2**32."""
    on = terms(interval=20_000, timeout=10_000)
    heard = pulse(heard=start)
    assert judge(heard, on, (start + 18_000) % WRAP) == Verdict.NOTHING
    assert judge(heard, on, (start + 20_000) % WRAP) == Verdict.ASK
    asked = pulse(heard=start, asked=(start + 20_000) % WRAP or 1)
    assert judge(asked, on, (start + 29_000) % WRAP) == Verdict.NOTHING
    assert judge(asked, on, (start + 30_001) % WRAP) == Verdict.UNANSWERED


def test_a_peer_that_answers_is_idle_all_the_same() -> None:
    on = terms(interval=20_000, timeout=10_000, idle=60_000)
    assert judge(pulse(heard=59_000, spoke=0), on, 59_000) == Verdict.NOTHING
    assert judge(pulse(heard=60_000, spoke=0), on, 60_000) == Verdict.IDLE
    assert judge(pulse(heard=0, spoke=0, asked=50_000), on, 60_000) == Verdict.UNANSWERED, "which is worse"


def test_whenever_it_is_asked_again_the_verdict_comes_in_time() -> None:
    """A verdict other than NOTHING is found when `due` says so, at most a sixteenth of its span early."""
    randomly = random.Random(6455)
    for _ in range(2000):
        on = terms(*(randomly.choice([0, randomly.randrange(1, 100_000)]) for _ in range(3)))
        now = start = randomly.randrange(WRAP)
        state = pulse(*(start - randomly.randrange(100_000) for _ in range(2)))
        if on["interval"] and on["timeout"] and randomly.random() < 0.5:
            state["asked"] = (start - randomly.randrange(on["timeout"])) % WRAP or 1
        for _ in range(300):
            if judge(state, on, now):
                break
            wait = due(state, on, now)
            if wait == NEVER:
                assert not (on["idle"] or on["interval"] or state["asked"])
                break
            now = (now + wait) % WRAP
        else:
            pytest.fail(f"no verdict: {state} {on}")
        verdict, gone = judge(state, on, now), {key: (now - value) % WRAP for key, value in state.items()}
        if verdict == Verdict.ASK:
            assert gone["heard"] >= on["interval"] - on["interval"] // 16
        elif verdict == Verdict.UNANSWERED:
            assert state["asked"] and gone["asked"] >= on["timeout"] - INEXACT
        elif verdict == Verdict.IDLE:
            assert gone["spoke"] >= on["idle"] - INEXACT
