"""When `make coverage` succeeds, and what it says when it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("coverage", reason="needs the group `coverage`")

from lines import runner
from lines.gate import Measured

MEASURED = {"a.py": Measured("first = 1\nsecond = 2", frozenset({1, 2}), frozenset({1}))}
LISTED = 'least = 50\n[[uncovered]]\nreason = "on Windows only"\nlines = ["a.py | (module) | second = 2"]'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test here may touch the data of a run, in which it may be itself."""
    monkeypatch.setattr(runner, "DATA", tmp_path / "data" / "lines")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "LISTED", tmp_path / "uncovered.toml")
    monkeypatch.setattr(runner, "assemble", lambda: None)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "uncovered.toml").write_text(LISTED)
    return tmp_path


def ended(monkeypatch: pytest.MonkeyPatch, status: int, *arguments: str) -> object:
    """The exit status, after tests that have ended with `status`."""
    monkeypatch.setattr(runner, "run", lambda *_: status)
    monkeypatch.setattr(runner, "measured", lambda: MEASURED)
    monkeypatch.setattr(sys, "argv", ["runner.py", *arguments])
    with pytest.raises(SystemExit) as exit:
        runner.main()
    return exit.value.code


def test_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, 0) == 0


def test_a_line_that_is_not_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "uncovered.toml").write_text("least = 50")
    assert ended(monkeypatch, 0) == 1
    said = capsys.readouterr().out
    assert "no test covers these lines" in said
    assert '"a.py | (module) | second = 2",' in said


@pytest.mark.parametrize(
    ("status", "words"), [(1, "tests have failed"), (5, "no test has run"), (3, "pytest has ended with 3")]
)
def test_tests_that_say_nothing_of_lines(
    status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, status) == status
    assert f"not judged: {words}" in capsys.readouterr().out


def test_some_tests_are_not_judged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, 0, "tests/wire") == 0
    assert "not judged: these are not the tests that are to cover all" in capsys.readouterr().out


def test_there_is_nothing_to_judge_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no run to judge again" in str(ended(monkeypatch, 0, "--again"))


def test_nothing_was_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 5))
    with pytest.raises(SystemExit, match="nothing was traced, and no test has run"):
        runner.run("1", [])
