"""crest.listening.systemd: sockets that were passed on, to a process of its own as systemd would start it."""

import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest
from support.client import GUARD
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from crest import ListenError
from crest.listening.systemd import passed_sockets

fcntl = pytest.importorskip("fcntl", reason="no descriptors are passed on there")

LAUNCH = """
import fcntl, os, sys
count = int(sys.argv[1])
for at, fd in enumerate([fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[2 : 2 + count]]):
    os.dup2(fd, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=sys.argv[2 + count])
os.execv(sys.executable, [sys.executable, "-c", sys.argv[3 + count]])
"""

PROGRAM = """
from crest import App, WebSocketServer
app, ws = App(), WebSocketServer()
ws.on_message(lambda conn, message: conn.send(message))
for _ in range(2):
    app.run(listen=%r)
"""


def launched(listen: object, names: str, *sockets: socket.socket) -> subprocess.Popen[str]:
    fds = [str(each.fileno()) for each in sockets]
    command = [sys.executable, "-c", LAUNCH, str(len(fds)), *fds, names, PROGRAM % (listen,)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, pass_fds=[each.fileno() for each in sockets])


def test_passed_sockets_are_served_and_outlive_the_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as other:
        port, other_port = web.getsockname()[1], other.getsockname()[1]
        url = f"ws://127.0.0.1:{port}/ws"
        with launched("systemd:web", "web:other", web, other) as process:
            try:
                for _ in range(2):
                    with connect(url, proxy=None, open_timeout=GUARD) as client:
                        client.send("hello")
                        assert client.recv(GUARD) == "hello"
                        process.send_signal(signal.SIGTERM)
                        with pytest.raises(ConnectionClosedError):
                            client.recv(GUARD)
                        assert client.close_code == 1012
                _, err = process.communicate(timeout=GUARD)
            finally:
                process.kill()
    assert process.returncode == 0
    assert err.count("Listening on") == 2
    assert f":{other_port} " not in err


def test_a_socket_that_is_not_there_is_one_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, launched("systemd:game", "web", web) as process:
        _, err = process.communicate(timeout=GUARD)
    assert process.returncode == 1
    assert err == "crest: cannot listen on systemd:game: systemd has passed no such socket; there are web\n"


# ---- What the environment says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({}, "cannot listen on systemd: systemd has passed no sockets to this process"),
        (
            {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
            "cannot listen on systemd: systemd has passed no sockets to this process",
        ),
        ({"LISTEN_PID": "me"}, "cannot listen on systemd: LISTEN_FDS is no number"),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "x"}, "cannot listen on systemd: LISTEN_FDS is no number"),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "0"}, "cannot listen on systemd: systemd has passed no such socket"),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "-1"}, "cannot listen on systemd: systemd has passed no such socket"),
    ],
)
def test_nothing_was_passed(environment: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("me", str(os.getpid())))
    with pytest.raises(ListenError) as raised:
        passed_sockets(None)
    assert str(raised.value) == text


def test_a_descriptor_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setattr("crest.listening.systemd.FIRST", 1 << 19)
    with pytest.raises(ListenError, match=f"descriptor {1 << 19}: Bad file descriptor"):
        passed_sockets(None)


def test_a_descriptor_that_is_closed_behind_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken of the first is given back, and the first itself is left alone."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        first = fcntl.fcntl(passed.fileno(), fcntl.F_DUPFD, 900)
        before = len(os.listdir("/dev/fd"))
        try:
            monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
            monkeypatch.setenv("LISTEN_FDS", "2")
            monkeypatch.setattr("crest.listening.systemd.FIRST", first)
            with pytest.raises(ListenError, match=f"descriptor {first + 1}: Bad file descriptor"):
                passed_sockets(None)
            assert len(os.listdir("/dev/fd")) == before
        finally:
            os.close(first)


def test_sockets_without_names_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.delenv("LISTEN_FDNAMES", raising=False)
        monkeypatch.setattr("crest.listening.systemd.FIRST", passed.fileno())
        found: Any
        for name in (None, "unknown"):
            (found,) = passed_sockets(name)
            with found:
                assert found.getsockname() == passed.getsockname()
                assert found.fileno() != passed.fileno()
