"""Coverage's plugin for crest's .pyx and .pxd files: Cython's own, for modules that lie elsewhere than their sources.

Cython's looks for the C file beside the source, and for the source from the current folder: `make coverage` keeps what
it builds out of the source tree, and many a test starts programs in folders of their own.
"""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from coverage import CoveragePlugin, FileReporter, FileTracer
from coverage.types import TLineNo
from Cython.Coverage import Plugin

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src" / "crest"
MADE = ROOT / "build" / "linetrace" / "cython"

NAME = re.compile(r"(?:^|.*/)src/(crest/.+\.(?:pyx|pxd))")
"""What Cython calls a file: by its path from the folder in which it was compiled."""

HEAD = re.compile(r"\s*cdef inline\b")
"""What Cython's plugin takes for a line of its own in a .pxd, and what is never traced as one."""


def source_of(filename: str) -> Path | None:
    """Return the file that a traced function is from, None if it is none of Cython's."""
    found = NAME.fullmatch(filename.replace("\\", "/"))
    return None if found is None else SOURCES.parent / found[1]


@cache
def executable(made: Path = MADE) -> dict[Path, frozenset[int]]:
    """Return the lines that are traced when they are run, by file. What is inlined from a .pxd is in many C files."""
    lines = defaultdict(set)
    for each in sorted(made.rglob("*.c")):
        if not (ROOT / each.relative_to(made)).with_suffix(".pyx").exists():
            continue  # it has been moved or removed since
        for name, found in Plugin()._parse_cfile_lines(str(each)).items():
            lines[SOURCES.parent / name] |= {line for line, code in found.items() if not HEAD.match(code)}
    return {path: frozenset(found) for path, found in lines.items() if SOURCES in path.parents and found}


class Tracer(FileTracer):
    def __init__(self, source: Path) -> None:
        self.source = source

    def source_filename(self) -> str:
        return str(self.source)


class Reporter(FileReporter):
    def lines(self) -> set[TLineNo]:
        return set(executable().get(Path(self.filename), ()))


class Lines(CoveragePlugin):
    def file_tracer(self, filename: str) -> FileTracer | None:
        source = source_of(filename)
        return None if source is None else Tracer(source)

    def file_reporter(self, filename: str) -> FileReporter:
        return Reporter(filename)


def coverage_init(registry: Any, _options: object) -> None:
    """Is called by coverage, which knows this module by its name in pyproject.toml."""
    registry.add_file_tracer(Lines())
