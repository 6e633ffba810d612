"""crest.io.life.phase: the table of its docstring, and what must hold for any way through it."""

import re
from itertools import product

import pytest

from crest.io.life import phase
from crest.io.life.phase import Phase, Step, after


def test_the_docstring_has_the_table() -> None:
    rows = [
        re.findall(r"\| *(\w*) *(?=\|)", line) for line in (phase.__doc__ or "").split("\n") if line.startswith("| ")
    ]
    head, *body = rows
    assert head == ["phase", *(step.name for step in Step)]
    assert [row[0] for row in body] == [each.name for each in Phase]
    for name, *leads in body:
        for step, to in zip(Step, leads, strict=True):
            assert after(Phase[name], step) == Phase[to or name], (name, step)


def test_no_way_leads_back() -> None:
    """A transport that is lost stays so, and nothing is read again."""
    for before, step in product(Phase, Step):
        then = Phase(after(before, step))
        assert then >= before or (before, then) == (Phase.LINGERING, Phase.LOST)
        assert not (before in (Phase.LOST, Phase.GONE) and then not in (Phase.LOST, Phase.GONE))


@pytest.mark.parametrize("steps", list(product(Step, repeat=4)))
def test_whatever_comes_the_end_of_the_transport_and_of_reading_is_the_end(steps: tuple[Step, ...]) -> None:
    now: int = Phase.OPENING
    for step in (*steps, Step.ENDED, Step.TRANSPORT_LOST):
        now = after(now, step)
    assert now == Phase.GONE
