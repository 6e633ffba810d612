"""Which lines may be without a test, and why: uncovered.toml against what was found.

A line is known by its file, its function and its text: what moves it, or changes the lines around it, is no matter. Of
a function that no test runs at all, one entry stands for all lines: its text is `*`.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

OUTSIDE = "(module)"
ALL = "*"
HEAD = re.compile(
    r" *(?:async def|def|cp?def|class)\b(?!.*\bextern\b)"
    r"[^=]*?(?P<name>\w+)(?:\[[^\]]*\])?(?:\(|:)"  # after the type that it returns; type parameters may follow
)


@dataclass(frozen=True, order=True)
class Place:
    """One line, or all lines of one function."""

    file: str
    function: str
    text: str

    def __str__(self) -> str:
        return f"{self.file} | {self.function} | {self.text}"

    @classmethod
    def parse(cls, entry: str) -> "Place":
        """
        Raises:
            ValueError: it is no entry.
        """
        parts = entry.split(" | ", 2)
        if len(parts) != 3:
            raise ValueError(f"{entry!r} is not 'file | function | text'")
        return cls(*parts)


@dataclass(frozen=True)
class Measured:
    """The lines of one file that can be run, and those that were."""

    text: str
    executable: frozenset[int]
    covered: frozenset[int]

    @property
    def missing(self) -> frozenset[int]:
        return self.executable - self.covered


@dataclass(frozen=True)
class Reason:
    """Why some lines have no test."""

    reason: str
    lines: Counter[Place]
    sometimes: bool = False
    """True if one run covers them and another does not. They count as missed, so that each run has the same figure."""


@dataclass(frozen=True)
class Listed:
    """What uncovered.toml says."""

    least: float
    reasons: list[Reason] = field(default_factory=list)
    slack: int = 0
    """Lines that may differ from what is listed without failing: which ones a run covers depends on timing, too."""


def read(text: str) -> Listed:
    """Parse uncovered.toml.

    Raises:
        ValueError: it lists something without saying why, or what is no line.
    """
    found = tomllib.loads(text)
    reasons = []
    for each in found.get("uncovered", []):
        if not re.search(r"\w{3}", each.get("reason", "")):
            raise ValueError(f"no reason is given for {each.get('lines')}")
        lines = Counter(Place.parse(line) for line in each["lines"])
        reasons.append(Reason(each["reason"], lines, each.get("sometimes", False)))
    return Listed(float(found["least"]), reasons, int(found.get("slack", 0)))


# ---- What was found, as entries --------------------------------------------------------------------------------------


def functions(text: str) -> list[str]:
    """Return the function or class that each line is in, by the indentation. A head is in what is around it."""
    within: list[tuple[int, str]] = []
    found = []
    for line in text.split("\n"):
        code = line.lstrip()
        indent = len(line) - len(code)
        if code and code[0] not in "#)]}":
            while within and within[-1][0] >= indent:
                within.pop()
        found.append(".".join(name for _, name in within) or OUTSIDE)
        if head := HEAD.match(line):
            within.append((indent, head["name"]))
    return found


def places(file: str, measured: Measured) -> Counter[Place]:
    """Return what of a file is not covered."""
    return Counter(place for _, place in _numbered(file, measured))


def _numbered(file: str, measured: Measured) -> Iterator[tuple[int, Place]]:
    names = functions(measured.text)
    lines = measured.text.split("\n")
    run = {names[number - 1] for number in measured.covered}
    whole = set()
    for number in sorted(measured.missing):
        name = names[number - 1]
        if name in run or name == OUTSIDE:
            yield number, Place(file, name, re.sub(r"  # .*", "", lines[number - 1]).strip())
        elif name not in whole:
            whole.add(name)
            yield number, Place(file, name, ALL)


def ranges(numbers: Iterable[int]) -> str:
    """Return lines as they are read best: 3-5, 8."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)


def table(files: Mapping[str, Measured]) -> Iterator[str]:
    """Yield the lines of the report: those with the most to do first."""
    yield f"{'file':34} {'lines':>6} {'covered':>8} {'per cent':>9}  missing"
    for name, each in sorted(files.items(), key=lambda item: (per_cent([item[1]]), item[0])):
        lines, covered = len(each.executable), len(each.executable & each.covered)
        yield f"{name:34} {lines:6} {covered:8} {per_cent([each]):9.2f}  {ranges(each.missing)}".rstrip()
    lines = sum(len(each.executable) for each in files.values())
    missing = sum(len(each.missing) for each in files.values())
    yield f"{'all of it':34} {lines:6} {lines - missing:8} {per_cent(files.values()):9.2f}"


def per_cent(files: Iterable[Measured]) -> float:
    files = list(files)
    lines = sum(len(each.executable) for each in files)
    return 100 * (1 - sum(len(each.missing) for each in files) / lines) if lines else 100.0


# ---- The judgement ---------------------------------------------------------------------------------------------------


def faults(files: Mapping[str, Measured], listed: Listed) -> tuple[list[str], bool]:
    """Return what is wrong, in words, new entries as uncovered.toml wants them; and if that is a failure."""
    found = sum((places(name, each) for name, each in files.items()), Counter[Place]())
    always = sum((each.lines for each in listed.reasons if not each.sometimes), Counter[Place]())
    sometimes = sum((each.lines for each in listed.reasons if each.sometimes), Counter[Place]())
    wrong = []
    new = found - always - sometimes
    if new:
        wrong.append(
            "no test covers these lines. Write one; if that cannot be, say why in tests/lines/uncovered.toml:\n"
            + proposed(new)
        )
    stale = always - found
    there = {Place(name, function, text) for name, each in files.items() for function, text in _texts(each)}
    stale += Counter(each for each in sometimes.elements() if each not in there)
    if stale:
        wrong.append(
            "tests/lines/uncovered.toml lists lines that are covered now, or that have gone:\n"
            + "\n".join(f"    {each}" for each in sorted(stale.elements()))
        )
    fails = new.total() + stale.total() > listed.slack
    if wrong and not fails:
        wrong.append(f"These are {listed.slack} lines at most, and no failure: see `slack`")
    total = certain(files, (sometimes - found).total())
    if total < listed.least:
        wrong.append(f"{total:.2f} % of the lines are covered, and {listed.least:.2f} % have been: see `least`")
        fails = True
    return wrong, fails


def certain(files: Mapping[str, Measured], lucky: int) -> float:
    """Return the per cent that every run covers: so many lines that this one has covered may be missed by another."""
    lines = sum(len(each.executable) for each in files.values())
    return per_cent(files.values()) - 100 * lucky / max(lines, 1)


def _texts(measured: Measured) -> Iterator[tuple[str, str]]:
    """Yield whatever an entry could say of a file."""
    nothing = Measured(measured.text, measured.executable, frozenset())
    names = functions(measured.text)
    yield from ((place.function, place.text) for _, place in _numbered("", nothing))
    lines = measured.text.split("\n")
    for number in measured.executable:
        yield names[number - 1], re.sub(r"  # .*", "", lines[number - 1]).strip()


def proposed(new: Counter[Place]) -> str:
    """Return entries to copy, but for their reason."""
    lines = "".join(f"    {json.dumps(str(each), ensure_ascii=False)},\n" for each in sorted(new.elements()))
    return f'[[uncovered]]\nreason = ""\nlines = [\n{lines}]'


def summary(listed: Listed) -> Iterator[str]:
    """Yield how many entries each reason has."""
    for each in sorted(listed.reasons, key=lambda reason: -reason.lines.total()):
        yield f"{each.lines.total():4}  {each.reason}{' (in some runs)' if each.sometimes else ''}"
