"""What the fuzz tests share: cases that follow from a seed and a number alone, run until the time is up.

What fails prints how to run it again. Exit status 1: a mismatch.
"""

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def check_numbered(check: Callable[[random.Random], T], script: str, seed: int, number: int) -> T:
    """Check one case.

    Args:
        check: makes a case of a random generator and checks it.
        script: path of the fuzz test, for the hint.
    """
    try:
        return check(random.Random(f"{seed} {number}"))
    except Exception as error:
        error.add_note(f"again: python tests/fuzz/{Path(script).name} --seed {seed} --case {number}")
        raise


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    made.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="(a random one)")
    made.add_argument("--case", type=int, help="only this one")
    return made


def run(check_numbered: Callable[[int, int], object], options: argparse.Namespace) -> None:
    """Check the one case that `options` name, or one after the other.

    Args:
        check_numbered: given seed and number; returns what to show of one case.
    """
    if options.case is not None:
        print(check_numbered(options.seed, options.case))
        return
    end = time.monotonic() + options.seconds
    for number in itertools.count():
        if time.monotonic() > end:
            print(f"{Path(sys.argv[0]).name}: {number} cases of seed {options.seed}, no mismatch")
            return
        check_numbered(options.seed, number)
