"""crest.cluster.processors: how many workers there are to be."""

import os
from pathlib import Path
from typing import Any

import pytest

from crest import ConfigurationError
from crest.cluster import processors
from crest.cluster.processors import workers_of


@pytest.fixture(autouse=True)
def group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the control group's files are; there is none yet."""
    monkeypatch.setattr(processors, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(processors, "QUOTA_1", tmp_path / "cpu.cfs_quota_us")
    monkeypatch.setattr(processors, "PERIOD_1", tmp_path / "cpu.cfs_period_us")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    return tmp_path


def test_without_a_quota_it_is_the_affinity() -> None:
    assert workers_of("auto") == 8


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000", 8),
        ("250000 100000", 3),
        ("200000 100000", 2),
        ("10000 100000", 1),
        ("9000000 100000", 8),
        ("nonsense", 8),
        ("-1 100000", 8),
    ],
)
def test_a_quota_bounds_it(group: Path, quota: str, count: int) -> None:
    (group / "cpu.max").write_text(quota + "\n")
    assert workers_of("auto") == count


def test_a_quota_of_the_first_version_bounds_it(group: Path) -> None:
    (group / "cpu.cfs_quota_us").write_text("150000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert workers_of("auto") == 2
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert workers_of("auto") == 8


def test_systems_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert workers_of("auto") == 5


@pytest.mark.parametrize("wrong", ["4", None, 2.0, True, [2]])
def test_other_types_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match='workers must be int or "auto", not '):
        workers_of(wrong)


@pytest.mark.parametrize("wrong", [0, -1, 257])
def test_other_numbers_are_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"workers must be 1 to 256, not {wrong}"):
        workers_of(wrong)


def test_where_there_is_no_poller_one_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    class Poller:
        exists = False

    monkeypatch.setattr(processors, "Poller", Poller)
    assert workers_of(1) == 1
    with pytest.raises(ConfigurationError, match="on this system there can be no more than one worker"):
        workers_of(2)
