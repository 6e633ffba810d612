"""A sample of the hostile cases, in processes of their own; and their runner and their model notice faults."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.allocator import why_not
from hostile.model import ALL, Message, Record
from support.client import TEXT

HERE = Path(__file__).parent
SECONDS = "6"
SEED = "6455"

reason = "needs os.fork" if not hasattr(os, "fork") else why_not()
RUNS = pytest.mark.skipif(reason is not None, reason=reason or "")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=False)


@RUNS
@pytest.mark.parametrize(
    ("kind", "suites"),
    [("nomemory", "plain/[!w]*"), ("collector", "*"), ("storm", "plain"), ("objects", "plain/*")],
)
def test_sample(kind: str, suites: str) -> None:
    done = run(str(HERE / "run.py"), "--kind", kind, "--case", suites, "--seconds", SECONDS, "--seed", SEED)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"(\d+) cases .* (\d+) passed, 0 failed", done.stdout)
    assert counted is not None and 0 < int(counted[1]) == int(counted[2])


# ---- The runner ------------------------------------------------------------------------------------------------------

FAKE = f"""
import os, sys
sys.path.insert(0, {str(HERE)!r})
import run

def cases(kind, suite, folder, first, step):
    for number in range(first, 5):
        yield str(number), None
        if suite == "dies" and number == 2:
            os.abort()
        yield str(number), ["a fault"] if suite == "fails" and number == 1 else []

suites = sys.argv.pop().split()
run.cases = cases
run.KINDS = {{"fake": lambda: suites}}
sys.exit(run.main())
"""


@RUNS
@pytest.mark.parametrize(
    ("suites", "status", "summary"),
    [
        ("passes", 0, "5 passed, 0 failed"),
        ("passes fails", 1, "9 passed, 1 failed"),
        ("dies", 1, "4 passed, 1 failed"),
        ("", 1, "0 passed, 0 failed"),
    ],
)
def test_runner_notices(suites: str, status: int, summary: str) -> None:
    done = run("-c", FAKE, suites)
    assert done.returncode == status, done.stderr
    assert done.stdout.rstrip().endswith(summary)
    assert ("fails:1" in done.stdout) == ("fails" in suites)
    assert ("dies:2" in done.stdout and "SIGABRT" in done.stdout) == (suites == "dies")


@RUNS
def test_one_case_again() -> None:
    done = run(str(HERE / "run.py"), "--kind", "objects", "--case", "plain/send/send:2")
    assert done.returncode == 0 and "1 cases (objects 1): 1 passed" in done.stdout, done.stdout + done.stderr


# ---- The model -------------------------------------------------------------------------------------------------------


class Told:
    """Calls as an application makes them, and what a client got."""

    def __init__(self) -> None:
        self.record = Record()

    def call(self, to: str = "a", result: object = True, *nested: str) -> Message:
        payload = self.record.payload(20)
        call = self.record.begin(to, TEXT, payload, frozenset("ab"))
        inner = [self.call(each) for each in nested]
        self.nested = inner
        self.record.end(call, None if to == ALL and result is True else result)
        return Message(TEXT, payload)

    def faults(self, *received: Message, ended: bool = False, drops: bool = False) -> list[str]:
        return self.record.faults("a", list(received), ended=ended, drops=drops)


def test_model_of_order() -> None:
    told = Told()
    one, all_of_them, other, two = told.call(), told.call(ALL), told.call("b"), told.call()
    assert told.faults(one, all_of_them, two) == []
    assert "before" in told.faults(all_of_them, one, two)[0]
    assert "never got" in told.faults(one, two)[0]
    assert "twice" in told.faults(one, all_of_them, two, two)[0]
    assert "got #2 to b" in told.faults(one, all_of_them, other, two)[0]


def test_model_of_nested_calls() -> None:
    told = Told()
    first = told.call()
    outer = told.call("a", True, "a", ALL)
    one, two = told.nested
    last = told.call()
    for order in ([outer, one, two], [one, outer, two], [one, two, outer]):
        assert told.faults(first, *order, last) == []
    for wrong in ([outer, two, one], [two, outer, one]):
        assert "out of order" in told.faults(first, *wrong, last)[0]
    assert "before" in told.faults(one, first, outer, two, last)[0]
    assert "before" in told.faults(first, outer, one, last, two)[0]


def test_model_of_contents() -> None:
    told = Told()
    one, two = told.call(), told.call()
    assert "mixed or cut" in told.faults(one, Message(TEXT, two.payload[:-1]))[0]
    assert "mixed or cut" in told.faults(one, Message(TEXT + 1, two.payload))[0]
    assert "nothing has sent" in told.faults(one, two, Message(TEXT, b"x"))[0]


def test_model_of_refused_calls() -> None:
    told = Told()
    for result in (False, MemoryError()):
        told = Told()
        one, two = told.call(), told.call("a", result)
        assert told.faults(one) == []
        assert "was told that it was not sent" in told.faults(one, two)[0]


def test_model_of_ends() -> None:
    told = Told()
    one, two, three = told.call(), told.call(), told.call()
    assert told.faults(one, two, ended=True) == []
    assert "though later ones" in told.faults(one, three, ended=True)[0]
    assert told.faults(one, three, drops=True) == []


# ---- What is asyncio's -----------------------------------------------------------------------------------------------

LOST = """  File "/lib/python3.11/asyncio/selector_events.py", line 285 in _remove_reader
  File "/lib/python3.11/asyncio/selector_events.py", line 889 in _force_close
"""


def test_what_asyncio_loses_is_told_apart() -> None:
    """Only where its transports are in use, and by the function in which an allocation failed."""
    done = run(
        "-c",
        f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]
from run import Tally
tally = Tally()
for suite, stack, how in [("loop/echo/4", {LOST!r}, "waits"), ("plain/echo/4", {LOST!r}, "waits"),
                          ("loop/echo/4", "", "waits"), ("loop/echo/4", {LOST!r}, "died of SIGSEGV")]:
    tally.add("nomemory", suite, "1", how, stack)
print(tally)
""",
    )
    assert done.stdout.endswith("0 passed, 3 failed; 1 by asyncio's selector_events.py:_force_close\n"), done.stderr
