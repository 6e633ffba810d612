"""Runs the hostile cases: python tests/hostile/run.py --kind nomemory --seconds 60

Each suite of cases has a process of its own, which may crash: then its next case has another. At the end it says how
many cases there were, and how to run each one again that has failed. The exit status is 1 if one has, or none ran.
"""

from __future__ import annotations

import argparse
import faulthandler
import fnmatch
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import allocator  # noqa: E402
import collector  # noqa: E402
import nomemory  # noqa: E402
import objects  # noqa: E402
from certificates import Pair  # noqa: E402

KINDS = {"nomemory": nomemory.suites, "collector": collector.suites, "storm": collector.storm_suites,
         "objects": objects.suites}
STORM = 20.0
"""Seconds of storms in each scenario, if all cases run."""

PATIENCE = 120
"""Seconds after which a case hangs."""

MOST_FAULTS = 12
"""Of one suite; then the rest of it is left out."""

Cases = Iterator[tuple[str, list[str] | None]]
"""The name of each, first with no list of faults, as it begins, then with it."""


# ---- A process of cases ----------------------------------------------------------------------------------------------


class Prepared(Pair):
    """A certificate that is there already."""

    def make(self, kind: str = "ec") -> None:
        if not self.certfile.exists():
            super().make(kind)


def cases(options: argparse.Namespace) -> Cases:
    """The cases of one suite."""
    folder = Path(options.folder)
    pair = Prepared(folder)
    if options.kind[0] == "objects":
        suite = objects.Suite(*options.case.split("/"))
        return objects.run(suite, pair, options.folder, options.first, options.step)
    hostile = allocator.load(next(folder.glob(f"{allocator.NAME}*")))
    run_of = {"nomemory": nomemory.run, "collector": collector.run, "storm": collector.run_storm}[options.kind[0]]
    return run_of(suite_of(options), hostile, pair, options.folder, options.first, options.step)


def suite_of(options: argparse.Namespace) -> Any:
    parts = options.case.split("/")
    if options.kind[0] == "nomemory":
        return nomemory.Suite(parts[0], parts[1], int(parts[2]))
    return collector.Suite(*parts) if options.kind[0] == "collector" else options.case


def be_child(options: argparse.Namespace) -> NoReturn:
    """Run the cases of one suite; a line for each that begins, and one for each that has ended."""
    faulthandler.enable()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    for name, faults in cases(options):
        if faults is None:
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            out.write(f"begin {name}\n")
        else:
            out.write(f"{'FAIL' if faults else 'pass'} {name} {'; '.join(faults)}".replace("\n", " ")[:3000] + "\n")
            if faults and not options.only:
                out.write("again\n")  # in a process that has seen no fault yet
                break
            if options.only:
                out.write("done\n")
                break
    else:
        out.write("done\n")
    out.flush()
    os._exit(0)  # what is left of a process that has seen the worst need not end well


# ---- All of them -----------------------------------------------------------------------------------------------------


class Tally:
    """How many cases ran, and which failed."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []

    def add(self, kind: str, suite: str, case: str, faults: str) -> None:
        if not faults:
            self.passed += 1
            return
        self.failed.append(f"--kind {kind} --case {suite}:{case}")
        print(f"FAILED {self.failed[-1]}\n    {faults}", flush=True)


class Runner:
    """Runs suites, each in a process of its own.

    Args:
        end: When to stop, in seconds of the monotonic clock.
        seed: Of what is chosen at random.
    """

    def __init__(self, folder: Path, end: float, seed: int) -> None:
        self.folder, self.end, self.seed = folder, end, seed
        self.tally = Tally()

    def run(self, kind: str, suite: str, first: int = 0, step: int = 1, *, most: float = 1e9, only: bool = False) -> None:
        """Run the cases of a suite, until there are no more of them or it is time to end; each fault needs a new process."""
        end = min(self.end, time.monotonic() + most)
        for _ in range(MOST_FAULTS):
            died_in = self.follow(kind, suite, first, step, end, only)
            if died_in is None or only or not died_in.isdigit() or time.monotonic() > end:
                return
            first = int(died_in) + step
        self.tally.add(kind, suite, str(first), f"{MOST_FAULTS} cases failed: the rest did not run")

    def follow(self, kind: str, suite: str, first: int, step: int, end: float, only: bool) -> str | None:
        """Run one process, and note what it says. Returns the case that it died in; None: it is done, or stopped."""
        command = [sys.executable, __file__, "--child", "--kind", kind, "--case", suite, "--folder", str(self.folder),
                   "--first", str(first), "--step", str(step), "--seed", str(self.seed)]  # fmt: skip
        errors = self.folder / "stderr"
        current = "start"
        with open(errors, "w") as stderr:
            process = subprocess.Popen(
                command + ["--only"] * only, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment()
            )
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                word, _, rest = line.rstrip("\n").partition(" ")
                name, _, faults = rest.partition(" ")
                if word == "done":
                    return None
                if word == "again":
                    return current
                if word == "begin":
                    current = name
                    continue
                if faults:
                    faults += f" | {where_of(errors.read_text(errors='replace'))}"
                self.tally.add(kind, suite, name, faults)
                if time.monotonic() > end:
                    process.kill()
                    return None
        status = process.returncode
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        said = errors.read_text(errors="replace")
        self.tally.add(kind, suite, current, f"died of {how} | {where_of(said)} | {tail_of(said)}")
        return current


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONFAULTHANDLER": "1", "PYTHONHASHSEED": "0"}


def tail_of(text: str) -> str:
    """What says most of how a process died."""
    lines = [line for line in text.splitlines() if line.strip()]
    for mark in ("ERROR: AddressSanitizer", "runtime error", "Fatal Python error"):
        for place, line in enumerate(lines):
            if mark in line:
                return " | ".join(lines[place : place + 14])
    return " | ".join(lines[-6:])


def where_of(text: str) -> str:
    """The functions of crest's in which the last allocation failed, the innermost first."""
    stack = text.rpartition("failed allocation:\n")[2].partition("Fatal Python error")[0]
    frames = re.findall(r"(?m)^(\S*/crest/\S*\.so)\(\+(0x[0-9a-f]+)\)", stack)
    names = []
    for module, address in frames[:8]:
        command = ["addr2line", "-f", "-e", module, address]
        try:
            name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
        except (OSError, subprocess.CalledProcessError):
            name = address
        names.append(re.sub(r"^__pyx_\w+?_5crest_\d+[a-z]+_\d+([a-z]+)_(\d+)?", r"\1.pyx:", name))
    names += [f"{Path(file).name}:{line}" for file, line in re.findall(r'File "(\S*/crest/\S*)", line (\d+)', stack)[:4]]
    return f"failed in {' < '.join(names)}" if names else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="which cases; by default, all kinds")
    parser.add_argument("--case", help="one case (suite:case), or a pattern of suites (plain/*)")
    parser.add_argument("--seconds", type=float, default=0, help="a sample that takes so long; 0: all cases")
    parser.add_argument("--seed", type=int, default=None, help="of the sample, and of random cases")
    for name in ("--first", "--step"):
        parser.add_argument(name, type=int, default=0 if name == "--first" else 1, help=argparse.SUPPRESS)
    for name in ("--child", "--only"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        be_child(options)
    reason = allocator.why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    seed = options.seed if options.seed is not None else random.randrange(1 << 16)
    with tempfile.TemporaryDirectory() as folder:
        allocator.build(Path(folder))
        Pair(Path(folder))
        started = time.monotonic()
        runner = Runner(Path(folder), started + (options.seconds or 1e9), seed)
        run_all(runner, options.kind or list(KINDS), options.case, options.seconds)
        tally = runner.tally
    count = tally.passed + len(tally.failed)
    for each in tally.failed[:20]:
        print(f"again: python {os.path.relpath(__file__)} {each} --seed {seed}")
    print(f"{count} cases in {time.monotonic() - started:.0f} s (seed {seed}): {tally.passed} passed, {len(tally.failed)} failed")
    return 0 if count and not tally.failed else 1


def run_all(runner: Runner, kinds: list[str], case: str | None, seconds: float) -> None:
    """Run one case, or all suites that match, or a sample of them."""
    pattern, _, one = (case or "*").partition(":")
    suites = [(kind, str(each)) for kind in kinds for each in KINDS[kind]() if fnmatch.fnmatch(str(each), pattern)]
    if one:
        for kind, suite in suites:
            runner.run(kind, suite, int(one) if one.isdigit() else 0, only=True)
        return
    chance = random.Random(runner.seed)
    if seconds:
        chance.shuffle(suites)
    for kind, suite in suites:
        if time.monotonic() > runner.end:
            break
        if seconds:
            step = chance.randint(20, 60)
            runner.run(kind, suite, chance.randrange(step), step, most=max(1.0, seconds / 30))
        elif kind == "storm":
            runner.run(kind, suite, most=STORM)
        else:
            runner.run(kind, suite)


if __name__ == "__main__":
    sys.exit(main())
