"""Runs tests with line tracing, says which lines of crest they cover, and fails for one missed without a reason.

Usage: runner.py [-n PROCESSES] [ARGUMENTS OF PYTEST...]
       runner.py --again         judges what the last run has found, after a change of uncovered.toml

`CREST_LINETRACE=1 setup.py build` has made the modules (`make coverage` does both). A run with arguments is of other
tests than selection.py's, and not judged.
"""

import argparse
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from coverage import Coverage, CoverageData
from coverage.exceptions import NoDataError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = ROOT / "src" / "crest"
FOLDER = ROOT / "build" / "linetrace"
PACKAGE = FOLDER / "package"
DATA = FOLDER / "data" / "lines"
CACHE = FOLDER / "cache"
LISTED = HERE / "uncovered.toml"

sys.path.insert(0, str(HERE.parent))

from lines.gate import Measured, faults, read, summary, table  # noqa: E402
from lines.plugin import executable  # noqa: E402


def assemble() -> None:
    """Make the package that is traced: the modules that were built for it, and links to the sources."""
    shutil.rmtree(PACKAGE, ignore_errors=True)
    (built,) = FOLDER.glob(f"lib.*-{sys.implementation.cache_tag}")
    for path in SOURCES.rglob("*"):
        if path.is_file() and path.suffix not in (".so", ".pyd", ".pyc"):
            link(path, SOURCES)
    for path in built.rglob(f"*{EXTENSION_SUFFIXES[0]}"):
        source = SOURCES / path.relative_to(built / "crest").with_name(path.name.split(".")[0] + ".pyx")
        if source.exists():  # otherwise it has been moved or removed since
            link(path, built / "crest")


def link(path: Path, base: Path) -> None:
    name = PACKAGE / "crest" / path.relative_to(base)
    name.parent.mkdir(parents=True, exist_ok=True)
    name.symlink_to(path)


def run(processes: str, arguments: list[str]) -> int:
    """Run the tests, and return pytest's status."""
    shutil.rmtree(DATA.parent, ignore_errors=True)
    DATA.parent.mkdir(parents=True)
    environment = os.environ | {"PYTHONPATH": f"{PACKAGE}{os.pathsep}{HERE.parent}"}
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-o", f"cache_dir={CACHE}", "-n", processes]
    command += ["--dist", "load", *(arguments or ["-p", "lines.selection"])]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status == pytest.ExitCode.TESTS_FAILED:
        print("\nonce more, those that have failed: with line tracing, some may take longer than they have time")
        status = subprocess.run([*command, "--last-failed"], cwd=ROOT, env=environment, check=False).returncode
    combined = Coverage(data_file=str(DATA), config_file=str(ROOT / "pyproject.toml"))
    try:
        combined.combine([str(DATA.parent)], strict=True)
    except NoDataError:
        sys.exit(f"nothing was traced, and {ended(status)}")
    combined.save()
    return status


def ended(status: int) -> str:
    """Return what pytest's status says, in words."""
    if status == pytest.ExitCode.OK:
        return "all tests have passed"
    if status == pytest.ExitCode.TESTS_FAILED:
        return "tests have failed"
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        return "no test has run"
    return f"pytest has ended with {status}"


def measured() -> dict[str, Measured]:
    """Return what the last run has found, of every file."""
    analysed = Coverage(data_file=str(DATA), config_file=str(ROOT / "pyproject.toml"))
    analysed.load()
    data: CoverageData = analysed.get_data()
    traced = executable()
    found = {}
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix == ".py":
            _, statements, _, missing, _ = analysed.analysis2(str(path))
            lines, covered = frozenset(statements), frozenset(statements) - frozenset(missing)
        elif path in traced:
            lines = traced[path]
            covered = lines & frozenset(data.lines(str(path)) or ())
        else:
            continue
        if lines:
            found[path.relative_to(SOURCES).as_posix()] = Measured(path.read_text("utf-8"), lines, covered)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", dest="processes", default="auto")
    parser.add_argument("--again", action="store_true")
    options, arguments = parser.parse_known_args()
    status = 0
    try:
        listed = read(LISTED.read_text("utf-8"))  # before the tests, which take minutes
    except ValueError as error:
        sys.exit(f"{LISTED.relative_to(ROOT)}: {error}")
    if not options.again:
        assemble()
        status = run(options.processes, arguments)
    elif not DATA.exists():
        sys.exit("there is no run to judge again: `make coverage` without ARGS runs the tests")
    files = measured()
    print(*table(files), sep="\n")
    if status or arguments:
        print("\nnot judged:", ended(status) if status else "these are not the tests that are to cover all")
        sys.exit(status)
    print("\nlines without a test, and why:", *summary(listed), sep="\n")
    wrong, fails = faults(files, listed)
    for each in wrong:
        print(f"\n{each}")
    sys.exit(fails)


if __name__ == "__main__":
    main()
