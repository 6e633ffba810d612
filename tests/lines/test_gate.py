"""What `make coverage` finds fault with."""

import pytest
from lines.gate import Listed, Measured, faults, functions, places, ranges, read, table

TEXT = '''\
"""A module."""
cdef int LEAST = 1


cdef class Reader(Base[int]):
    """Read."""

    cdef int grow(self, size_t more, *,
                  bint exact=False) except -1:
        if more == 0:
            return 0
        # A comment at any depth.
        raise MemoryError  # which is rare

    async def read(
        self,
    ) -> None:
        def later():
            return 1
        later()


def after(x=LEAST):
    return x
'''
FILES = {"io/reader.pyx": Measured(TEXT, frozenset({2, 10, 11, 13, 18, 19, 20, 24}), frozenset({2, 10, 20, 24}))}
MISSED = """\
least = 50

[[uncovered]]
reason = "without memory only"
lines = ["io/reader.pyx | Reader.grow | raise MemoryError"]

[[uncovered]]
reason = "on Windows only"
lines = [
    "io/reader.pyx | Reader.grow | return 0",
    "io/reader.pyx | Reader.read | def later():",
    "io/reader.pyx | Reader.read.later | *",
]
"""


def test_functions_of_lines() -> None:
    names = functions(TEXT)
    assert names[:5] == ["(module)"] * 5, "a head is in what is around it"
    assert names[7] == names[14] == "Reader"
    assert set(names[8:13]) == {"Reader.grow"}
    assert names[16:20] == ["Reader.read", "Reader.read", "Reader.read.later", "Reader.read"]
    assert names[22:24] == ["(module)", "after"]


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("cdef Reader reader = made(1)", None),
        ("cdef inline uint64_t due(self) noexcept nogil:", "due"),
        ("cpdef void excuse(self, uint32_t now) noexcept:", "excuse"),
        ("cdef const uint8_t* end(const uint8_t* at) noexcept:", "end"),
        ("def option[T](value: T) -> T:", "option"),
        ("class Gate:", "Gate"),
        ('cdef extern from "zlib.h" nogil:', None),
        ("defined(1)", None),
    ],
)
def test_heads(head: str, name: str | None) -> None:
    assert functions(f"{head}\n    pass\n")[1] == name or (
        name is None and functions(f"{head}\n  1\n")[1] == "(module)"
    )


def test_what_is_listed_is_no_fault() -> None:
    assert faults(FILES, read(MISSED)) == ([], False)


def test_what_is_missed_is_proposed_as_it_is_listed() -> None:
    ((fault,), fails) = faults(FILES, Listed(0.0))
    assert fails
    proposed = "least = 0\n" + fault.split("\n", 1)[1]
    with pytest.raises(ValueError, match="no reason"):
        read(proposed)
    assert faults(FILES, read(proposed.replace('""', '"it is written here"'))) == ([], False)


def test_a_line_that_is_not_listed() -> None:
    ((fault,), fails) = faults(FILES, read(MISSED.replace('    "io/reader.pyx | Reader.grow | return 0",\n', "")))
    assert fails
    assert '    "io/reader.pyx | Reader.grow | return 0",' in fault.split("\n")


def test_lines_of_one_text_are_counted() -> None:
    twice = TEXT.replace("raise MemoryError", "return 0")
    files = {"io/reader.pyx": Measured(twice, frozenset({10, 11, 13}), frozenset({10}))}
    entry = '"io/reader.pyx | Reader.grow | return 0",'
    listed = 'least = 0\n[[uncovered]]\nreason = "rare"\nlines = [{}]\n'
    ((fault,), fails) = faults(files, read(listed.format(entry)))
    assert fails
    assert fault.count("| return 0") == 1
    assert faults(files, read(listed.format(entry * 2))) == ([], False)


def test_a_line_that_moves_stays_listed() -> None:
    moved = Measured(
        "\n\n" + TEXT,
        frozenset(each + 2 for each in FILES["io/reader.pyx"].executable),
        frozenset(each + 2 for each in FILES["io/reader.pyx"].covered),
    )
    assert faults({"io/reader.pyx": moved}, read(MISSED)) == ([], False)


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ("io/reader.pyx | Reader.grow | if more == 0:", "covered"),
        ("io/reader.pyx | Reader.grow | if more == 1:", "has gone"),
        ("io/reader.pyx | Reader.shrink | *", "has gone"),
        ("io/writer.pyx | Reader.grow | *", "has gone"),
        ("io/reader.pyx | Reader.grow | *", "in part"),
    ],
)
def test_a_listed_line_that_is_not_missed(entry: str, shown: str) -> None:
    ((fault,), fails) = faults(FILES, read(MISSED.replace("    ", f'    "{entry}",\n    ', 1)))
    assert fails
    assert entry in fault, shown
    assert "Reader.read.later" not in fault


def test_what_some_runs_cover() -> None:
    """Is listed whether it was covered or not, as long as it is there."""
    sometimes = MISSED.replace("least = 50", "least = 0").replace('reason = "on W', 'sometimes = true\nreason = "on W')
    everything = {"io/reader.pyx": Measured(TEXT, frozenset({2, 10, 11, 13, 18, 19}), frozenset({2, 10, 11, 18, 19}))}
    assert faults(FILES, read(sometimes)) == ([], False)
    assert faults(everything, read(sometimes)) == ([], False)
    ((fault,), fails) = faults(everything, read(sometimes.replace("| return 0", "| return 1")))
    assert fails
    assert "return 1" in fault


@pytest.mark.parametrize(("slack", "fails"), [(0, True), (1, True), (2, False)])
def test_a_few_lines_may_differ(slack: int, fails: bool) -> None:
    """They are told of all the same. One is missed and not listed, one is listed and covered."""
    listed = MISSED.replace("| return 0", "| if more == 0:").replace("least = 50", f"least = 50\nslack = {slack}")
    wrong, failed = faults(FILES, read(listed))
    assert failed == fails
    assert "return 0" in wrong[0] and "if more == 0:" in wrong[1]
    assert ("no failure" in wrong[-1]) == (not fails)


def test_no_slack_for_the_figure() -> None:
    _, fails = faults(FILES, read(MISSED.replace("least = 50", "least = 50.01\nslack = 100")))
    assert fails


def test_less_than_before() -> None:
    assert faults(FILES, read(MISSED.replace("least = 50", "least = 50.0"))) == ([], False)
    ((fault,), fails) = faults(FILES, read(MISSED.replace("least = 50", "least = 50.01")))
    assert fails
    assert "50.00 %" in fault and "50.01 %" in fault


@pytest.mark.parametrize("covered", [frozenset({2, 10, 20, 24}), frozenset({2, 10, 11, 13, 20, 24})])
def test_what_some_runs_cover_counts_as_missed(covered: frozenset[int]) -> None:
    """Or the figure would be less in a run with less luck, and fail."""
    files = {"io/reader.pyx": Measured(TEXT, FILES["io/reader.pyx"].executable, covered)}
    sometimes = MISSED.replace("[[uncovered]]", "[[uncovered]]\nsometimes = true")
    assert faults(files, read(sometimes)) == ([], False)
    ((fault,), fails) = faults(files, read(sometimes.replace("least = 50", "least = 50.01")))
    assert fails
    assert "50.00 %" in fault


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('[[uncovered]]\nlines = ["a.py | f | x"]\n', "no reason"),
        ('[[uncovered]]\nreason = "?"\nlines = ["a.py | f | x"]\n', "no reason"),
        ('[[uncovered]]\nreason = "because"\nlines = ["a.py: f: x"]\n', "is not 'file"),
    ],
)
def test_entries_that_say_too_little(wrong: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read("least = 1\n" + wrong)


def test_a_bar_in_a_line() -> None:
    """It is common: `int | None`."""
    files = {"a.py": Measured("def f():\n    return a | b\n    c\n", frozenset({2, 3}), frozenset({3}))}
    (entry,) = places("a.py", files["a.py"])
    assert faults(files, read(f'least = 0\n[[uncovered]]\nreason = "rare"\nlines = ["{entry}"]\n')) == ([], False)


def test_the_table() -> None:
    lines = list(table(FILES | {"a.py": Measured("a\n", frozenset({1}), frozenset({1}))}))
    assert [line.split()[:4] for line in lines[1:-1]] == [
        ["io/reader.pyx", "8", "4", "50.00"],
        ["a.py", "1", "1", "100.00"],
    ]
    assert lines[1].endswith("  11, 13, 18-19")
    assert lines[-1].split()[-3:] == ["9", "5", "55.56"]


def test_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([7, 1, 2, 3, 9, 8, 5]) == "1-3, 5, 7-9"
