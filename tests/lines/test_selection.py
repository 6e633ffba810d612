"""Which tests `make coverage` runs."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("coverage")

from lines.selection import FEW, LEFT_OUT, LONG, MOST, OFTEN, sample, spread

TESTS = Path(__file__).resolve().parents[1]


def test_a_sample_goes_from_the_first_to_the_last() -> None:
    assert spread(["a"], 9) == ["a"]
    few, many = [str(at) for at in range(9)], [str(at) for at in range(100)]
    assert spread(few, 9) == few
    chosen = spread(many, 9)
    assert (chosen[0], chosen[-1], len(set(chosen))) == ("0", "99", 9)
    assert max(int(later) - int(one) for one, later in pairwise(chosen)) <= 100 // (9 - 1) + 1


def test_each_function_has_its_sample() -> None:
    first = [f"tests/wire/test_frames.py::test_any[{at}]" for at in range(100)]
    others = ["tests/wire/test_frames.py::test_one", "tests/wire/test_frames.py::Test::test_any[0]"]
    chosen = sample([*first, *others])
    assert chosen >= {first[0], first[-1], *others}
    assert len(chosen) == MOST + 2


def test_of_a_function_that_takes_long_there_are_few() -> None:
    names = [f"tests/wire/test_frames.py::test_{LONG[0]}[{at}]" for at in range(100)]
    chosen = sample([*names, f"tests/wire/test_frames.py::test_{LONG[0]}_as_well"])
    assert len(chosen) == FEW + 1 < MOST


def test_what_is_left_out() -> None:
    left = [
        "tests/fuzz/test_runner.py::test_a_run",
        "tests/docs/test_websocket.py::test_snippets",
        "tests/io/net/test_stream.py::test_writes[asyncio-plain]",
        "tests/io/net/test_stream.py::test_writes[plain-asyncio-0]",
        "tests/wire/test_no_memory.py::test_reader[0]",
        "tests/system/test_backpressure.py::test_an_end",
    ]
    run = [
        "tests/io/net/test_stream.py::test_writes[uvloop-plain]",
        "tests/listening/test_signals.py::test_a_wakeup[asyncio]",
        "tests/system/test_forks.py::test_a_child[asyncio]",
        "tests/io/out/test_backlog.py::test_the_oldest_make_way_for_sends",
        "tests/io/life/test_protocol.py::test_asyncio_takes_it_for_a_buffered_protocol",
        "tests/wire/test_frames_memory.py::test_reader[0]",
        "tests/lines/test_selection.py::test_asyncios[asynciously]",
    ]
    assert sample([*left, *run]) == set(run)
    assert all(re.search(r"\w{3}", reason) for reason in LEFT_OUT.values())


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Names of all tests, as pytest would say them; none with parameters."""
    return [
        f"{path.relative_to(TESTS.parent).as_posix()}::{name}"
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"(?m)^ *(?:async )?def (test_\w+)", path.read_text("utf-8"))
    ]


@pytest.mark.parametrize("pattern", [each for each in LEFT_OUT if "asyncio" not in each])
def test_nothing_is_left_out_that_is_not_there(pattern: str, names: list[str]) -> None:
    """A test that is moved or renamed would be run, and take very long, or fail."""
    assert any(re.search(pattern, name) for name in names)


@pytest.mark.parametrize("name", LONG + OFTEN)
def test_what_runs_the_same_lines_or_takes_long_is_there(name: str, names: list[str]) -> None:
    assert any(each.endswith(f"::test_{name}") for each in names)
