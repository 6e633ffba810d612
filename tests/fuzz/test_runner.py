"""What `make fuzz` takes for a failure; and an input checked once, as README.md says to do with what was found."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fuzz.runner import LEAST_RUNS, Modules, Result, environment, excerpt, judge

HERE = Path(__file__).parent

GOOD = """\
#2\tINITED cov: 164 ft: 165 corp: 1/1b exec/s: 0 rss: 483Mb
#46954\tDONE   cov: 938 ft: 3214 corp: 395/8177b lim: 58 exec/s: 6707 rss: 666Mb
stat::number_of_executed_units: 46954
stat::average_exec_per_sec:     6707
"""


def test_a_run() -> None:
    assert judge(0, GOOD, 10) == Result(46954, 6707, 938, None)


@pytest.mark.parametrize(
    ("status", "output", "corpus", "wrong"),
    [
        (77, GOOD, 10, "status 77"),
        (-11, "", 10, "status -11"),
        (0, "", 0, "ran 0 inputs"),
        (0, GOOD, 46955, "the corpus has 46955"),
        (0, GOOD.replace("46954", str(LEAST_RUNS - 1)), 0, "ran 9 inputs"),
        (0, GOOD.replace("cov: ", "cov: 0 "), 10, "no coverage"),
    ],
)
def test_what_is_no_run(status: int, output: str, corpus: int, wrong: str) -> None:
    assert wrong in str(judge(status, output, corpus).wrong)


def test_the_excerpt_is_of_the_failure() -> None:
    output = "\n".join([*["#1 NEW"] * 100, " === Uncaught Python exception: ===", "AssertionError: x", *["#0"] * 100])
    assert "AssertionError: x" in excerpt(output)
    assert len(excerpt(output).splitlines()) < 50


@pytest.mark.parametrize("sanitizer", ["address", "undefined"])
def test_a_target_gets_the_runtime_that_its_modules_are_built_for(
    sanitizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", SimpleNamespace(path=lambda: "/site"))
    monkeypatch.delenv("PYTHONMALLOC", raising=False)
    found = environment("text", Modules(Path("/modules"), sanitizer))
    runtime, allocator = {"address": ("asan", "malloc"), "undefined": ("ubsan", None)}[sanitizer]
    assert found["LD_PRELOAD"] == f"/site/{runtime}_with_fuzzer.so"
    assert (found["PYTHONPATH"], found.get("PYTHONMALLOC")) == ("/modules", allocator)


def harness(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, HERE / "harness.py", *arguments], capture_output=True, text=True)


def test_an_input_is_checked_once(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"\0" + "é".encode())
    done = harness("text", str(tmp_path / "input"))
    assert (done.stdout, done.stderr, done.returncode) == ("é\n", "", 0)


def test_a_target_that_does_not_exist() -> None:
    done = harness("none", "input")
    assert done.returncode == 1
    assert "Targets: client, connection, deflate," in done.stderr
