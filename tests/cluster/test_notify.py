"""crest.cluster.notify: what systemd is told."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from crest.cluster.notify import notify, reloading, watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that the service manager reads."""
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@crest-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(address.replace("@", "\0"))
        except FileNotFoundError:
            pytest.skip("this system has no abstract addresses")
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        sock.setblocking(False)
        yield sock


def test_states_are_told(manager: socket.socket) -> None:
    notify("READY=1", "STATUS=two workers")
    assert manager.recv(1000) == b"READY=1\nSTATUS=two workers"


def test_a_reload_has_its_time(manager: socket.socket) -> None:
    notify(*reloading())
    state, time = manager.recv(1000).decode().split("\n")
    assert state == "RELOADING=1"
    assert int(time.removeprefix("MONOTONIC_USEC=")) > 0


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


def test_a_manager_that_is_gone_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
    assert "The service manager could not be told READY=1: No such file or directory" in caplog.text


@pytest.mark.parametrize(
    ("microseconds", "process", "interval"),
    [
        ("3000000", None, 1.5),
        ("3000000", "own", 1.5),
        ("3000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_signs_of_life(
    monkeypatch: pytest.MonkeyPatch, microseconds: str | None, process: str | None, interval: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", process)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(os.getpid()) if value == "own" else value)
    assert watchdog_interval() == interval
