"""Which tests `make coverage` runs."""

import re
from itertools import pairwise

from lines.selection import LEFT_OUT, MOST, sample, spread


def test_a_sample_goes_from_the_first_to_the_last() -> None:
    assert spread(["a"]) == ["a"]
    few, many = [str(at) for at in range(MOST)], [str(at) for at in range(100)]
    assert spread(few) == few
    chosen = spread(many)
    assert (chosen[0], chosen[-1], len(set(chosen))) == ("0", "99", MOST)
    assert max(int(later) - int(one) for one, later in pairwise(chosen)) <= 100 // (MOST - 1) + 1


def test_each_function_has_its_sample() -> None:
    first = [f"tests/wire/test_frames.py::test_any[{at}]" for at in range(100)]
    others = ["tests/wire/test_frames.py::test_one", "tests/wire/test_frames.py::Test::test_any[0]"]
    chosen = sample([*first, *others])
    assert chosen >= {first[0], first[-1], *others}
    assert len(chosen) == MOST + 2


def test_what_is_left_out() -> None:
    left = [
        "tests/fuzz/test_runner.py::test_a_run",
        "tests/io/net/test_stream.py::test_writes[asyncio-plain]",
        "tests/io/net/test_stream.py::test_writes[plain-asyncio-0]",
        "tests/wire/test_no_memory.py::test_reader[0]",
        "tests/system/test_backpressure.py::test_an_end",
    ]
    run = [
        "tests/io/net/test_stream.py::test_writes[uvloop-plain]",
        "tests/listening/test_signals.py::test_a_wakeup[asyncio]",
        "tests/system/test_forks.py::test_a_child[asyncio]",
        "tests/io/life/test_protocol.py::test_asyncio_takes_it_for_a_buffered_protocol",
        "tests/wire/test_frames_memory.py::test_reader[0]",
        "tests/lines/test_selection.py::test_asyncios[asynciously]",
    ]
    assert sample([*left, *run]) == set(run)
    assert all(re.search(r"\w{3}", reason) for reason in LEFT_OUT.values())
