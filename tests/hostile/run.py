"""Runs the hostile cases: python tests/hostile/run.py --kind nomemory --seconds 60

Each suite of cases has a process of its own, which may crash: then its next case has another. At the end it says how
many cases there were, and how to run each one again that has failed. The exit status is 1 if one has, or none ran.

HOSTILE_GUARD=20   Seconds after which what is waited for has failed to happen. Where much fails, fewer are quicker.
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
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import allocator  # noqa: E402
import collector  # noqa: E402
import nomemory  # noqa: E402
import objects  # noqa: E402
import scenarios  # noqa: E402
import storms  # noqa: E402
from support.certificates import Pair  # noqa: E402

KINDS = {
    "nomemory": nomemory.suites,
    "collector": collector.suites,
    "storm": storms.suites,
    "objects": objects.suites,
}
ENDLESS = 1e9
STRIDES = 5, 25
"""Of a suite with one case for each place, a sample has every so manieth."""

STORM = 20.0
"""Seconds of storms in each scenario, if all cases run."""

PATIENCE = 600
"""Seconds after which a case hangs."""

MOST_FAULTS = 40
"""Of one suite; then the rest of it is left out."""

Cases = Iterator[tuple[str, list[str] | None]]
"""The name of each, first with no list of faults, as it begins, then with it."""


# ---- A process of cases ----------------------------------------------------------------------------------------------


class Prepared(Pair):
    """A certificate that is there already."""

    def make(self, kind: str = "ec") -> None:
        if not self.certfile.exists():
            super().make(kind)


def cases(kind: str, suite: str, folder: Path, first: int, step: int) -> Cases:
    """The cases of one suite."""
    pair, parts = Prepared(folder), suite.split("/")
    if kind == "objects":
        return objects.run(scenarios.Suite(*parts), pair, str(folder), first, step)
    hostile = allocator.load(next(folder.glob(f"{allocator.NAME}*")))
    if kind == "nomemory":
        return nomemory.run(nomemory.Suite(parts[0], parts[1], int(parts[2])), hostile, pair, str(folder), first, step)
    if kind == "collector":
        return collector.run(scenarios.Suite(*parts), hostile, pair, str(folder), first, step)
    return storms.run(suite, hostile, pair, str(folder), first, step)


def be_child(out: int, errors: Path, only: bool, *suite: Any) -> NoReturn:
    """Run the cases of one suite; a line for each that begins, and one for each that has ended.

    It never returns: what is left of a process that has seen the worst need not end well.
    """
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    faulthandler.enable()
    # Not the module's own watchdog: that looks at the stack of a thread that runs, and crashes where much happens.
    faulthandler.register(signal.SIGALRM, chain=True)

    def say(line: str) -> None:
        os.write(out, line.replace("\n", " ")[:3000].encode(errors="replace") + b"\n")

    try:
        for name, faults in cases(*suite):
            if faults is None:
                signal.alarm(PATIENCE)
                say(f"begin {name}")
                continue
            say(f"{'FAIL' if faults else 'pass'} {name} {'; '.join(faults)}")
            if faults and not only:
                say("again")  # in a process that has seen no fault yet
            if faults or only:
                break
        say("done")
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


# ---- All of them -----------------------------------------------------------------------------------------------------


class Tally:
    """How many cases ran, and which failed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self.foreign: Counter[str] = Counter()

    def __str__(self) -> str:
        count, failed = self.counts.total(), len(self.failed)
        kinds = ", ".join(f"{kind} {number}" for kind, number in self.counts.items())
        others = "".join(f"; {number} by asyncio's {place}" for place, number in self.foreign.items())
        passed = count - failed - self.foreign.total()
        return f"{count} cases ({kinds or 'none'}): {passed} passed, {failed} failed{others}"

    def add(self, kind: str, suite: str, case: str, faults: str, stack: str = "") -> None:
        """Count a case.

        Args:
            faults: What is wrong; "" if nothing is.
            stack: Where its allocations failed.
        """
        self.counts[kind] += 1
        if not faults:
            return
        if kind == "nomemory" and "died of SIG" not in faults and (place := nomemory.foreign(suite, stack)) is not None:
            self.foreign[place] += 1
            print(f"not crest's: --case {suite}:{case}: {place} {nomemory.FOREIGN[place]}\n    {faults}", flush=True)
            return
        self.failed.append(f"--kind {kind} --case {suite}:{case}")
        print(f"FAILED {self.failed[-1]}\n    {faults}", flush=True)


class Runner:
    """Runs suites, each in a process of its own.

    Args:
        seed: Of what is chosen at random.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.started = time.monotonic()
        self.tally = Tally()

    def sample(self, kind: str, suites: list[str], chance: random.Random, end: float) -> None:
        """Run some cases of each suite, as long as there is time."""
        share = max(1.0, (end - time.monotonic()) / 20)
        for suite in suites:
            if time.monotonic() > end:
                break
            step = chance.randint(*STRIDES)
            runs = 1 if kind in ("objects", "storm") else step
            self.run(kind, suite, chance.randrange(step), runs, most=min(share, max(0.0, end - time.monotonic())))

    def run(
        self, kind: str, suite: str, first: int = 0, step: int = 1, *, most: float = ENDLESS, only: bool = False
    ) -> None:
        """Run the cases of a suite, for so many seconds at most; behind each fault in a new process."""
        end = time.monotonic() + most
        for _ in range(MOST_FAULTS):
            died_in = self.follow(kind, suite, first, step, end, only)
            if died_in is None or only or not died_in.isdigit() or time.monotonic() > end:
                return
            first = int(died_in) + step
        self.tally.add(kind, suite, str(first), f"{MOST_FAULTS} cases failed: the rest did not run")

    def follow(self, kind: str, suite: str, first: int, step: int, end: float, only: bool) -> str | None:
        """Run one process, and note what it says. Returns the case that it died in; None: it is done, or stopped."""
        errors, current = self.folder / "stderr", "start"
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            be_child(writing, errors, only, kind, suite, self.folder, first, step)
        os.close(writing)
        with open(reading, encoding="utf-8") as said:
            for line in said:
                word, _, rest = line.rstrip("\n").partition(" ")
                name, _, faults = rest.partition(" ")
                if word == "done":
                    os.waitpid(child, 0)
                    return None
                if word == "again":
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    return current
                if word == "begin":
                    current = name
                    continue
                stack = last_stack(errors) if faults else ""
                self.tally.add(kind, suite, name, faults and f"{faults} | {where_of(stack)}", stack)
                if time.monotonic() > end:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    return None
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        how = f"died of {signal.Signals(-status).name}" if status < 0 else f"died of exit status {status}"
        if status == -signal.SIGALRM:
            how = f"hung for {PATIENCE} s"
        stack = last_stack(errors)
        self.tally.add(kind, suite, current, f"{how} | {where_of(stack)} | {tail_of(errors)}", stack)
        return current


def tail_of(errors: Path) -> str:
    """What says most of how a process died."""
    lines = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
    for mark in ("ERROR: AddressSanitizer", "runtime error", "Fatal Python error"):
        for place, line in enumerate(lines):
            if mark in line:
                return " | ".join(lines[place : place + 14])
    return " | ".join(lines[-6:])


def last_stack(errors: Path) -> str:
    """Where allocations failed last, of several one behind the other."""
    text = errors.read_text(errors="replace")
    return text.rpartition("failed allocation:\n")[2].partition("Fatal Python error")[0]


def where_of(stack: str) -> str:
    """The functions of crest's in which allocations failed, the innermost first; of several, each one's."""
    places = [place for each in stack.split("and then:\n") if (place := place_of(each))]
    return f"failed in {', then in '.join(dict.fromkeys(places))}" if places else ""


def place_of(stack: str) -> str:
    """The functions of crest's in a stack."""
    frames = re.findall(r"(?m)^(\S*/crest/\S*\.so)\(\+(0x[0-9a-f]+)\)", stack)
    names = []
    for module, address in frames[:8]:
        command = ["addr2line", "-f", "-e", module, address]
        try:
            name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
        except (OSError, subprocess.CalledProcessError):
            name = address
        names.append(re.sub(r"^__pyx_\w+?_5crest_\d+[a-z]+_\d+([a-z]+)_(\d+)?", r"\1.pyx:", name))
    names += [
        f"{Path(file).name}:{line}" for file, line in re.findall(r'File "(\S*/crest/\S*)", line (\d+)', stack)[:4]
    ]
    return " < ".join(names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="which cases; by default, all kinds")
    parser.add_argument("--case", help="one case (suite:case), or a pattern of suites (plain/*)")
    parser.add_argument("--seconds", type=float, default=0, help="a sample that takes so long; 0: all cases")
    parser.add_argument("--seed", type=int, default=None, help="of the sample, and of random cases")
    options = parser.parse_args()
    reason = allocator.why_not()
    if reason is not None:
        print(f"not run: it {reason}")
        return 2
    seed = options.seed if options.seed is not None else random.randrange(1 << 16)
    with tempfile.TemporaryDirectory() as folder:
        allocator.build(Path(folder))
        Pair(Path(folder))
        runner = Runner(Path(folder), seed)
        run_all(runner, options.kind or list(KINDS), options.case, options.seconds)
        tally = runner.tally
    for each in tally.failed[:20]:
        print(f"again: python {os.path.relpath(__file__)} {each}")
    print(f"{time.monotonic() - runner.started:.0f} s, seed {seed}: {tally}")
    return 0 if tally.counts and not tally.failed else 1


def run_all(runner: Runner, kinds: list[str], case: str | None, seconds: float) -> None:
    """Run one case, or all suites that match, or a sample of them, for which each kind has the same time."""
    pattern, _, one = (case or "*").partition(":")
    chance = random.Random(runner.seed)
    for place, kind in enumerate(kinds):
        suites = [suite for each in KINDS[kind]() if fnmatch.fnmatch(suite := str(each), pattern)]
        if one:
            for suite in suites:
                runner.run(kind, suite, int(one) if one.isdigit() else 0, only=True)
        elif seconds:
            chance.shuffle(suites)
            runner.sample(kind, suites, chance, runner.started + seconds * (place + 1) / len(kinds))
        else:
            for suite in suites:
                runner.run(kind, suite, most=STORM if kind == "storm" else ENDLESS)


if __name__ == "__main__":
    sys.exit(main())
