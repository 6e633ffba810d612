"""crest.app: `run`, in a process of its own. Signals, exit codes, and what is written to stderr."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.certificates import Pair
from support.client import GUARD
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

LOOPS = ["asyncio", pytest.param("uvloop", marks=pytest.mark.skipif(sys.platform == "win32", reason="no uvloop"))]
SIGNALS = [signal.SIGINT, signal.SIGTERM]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals on Windows")

PROGRAM = """
import asyncio, os, sys
from crest import App, WebSocketServer

app = App()
ws = WebSocketServer(close_timeout=1000)

@ws.on_message
async def received(conn, message):
    if message == "block":
        conn.send("blocked")
        await asyncio.Event().wait()
    conn.send(message)

@ws.on_close
async def closed(conn, code, reason):
    await asyncio.sleep(0)
    print("closed", code, flush=True)

"""
UNPRIVILEGED_PORT_START = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


class Program:
    """A program that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.written: list[str] = []

    def line(self) -> str:
        """The next line of stderr."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line, f"the program has ended; it wrote {self.written}"
        self.written.append(line)
        return line

    def port(self, scheme: str = "http") -> int:
        """The port that it listens on, as it says."""
        found = re.search(rf"Listening on {scheme}://127\.0\.0\.1:(\d+) ", self.line())
        assert found, self.written
        return int(found[1])

    def end(self) -> tuple[int, str, str]:
        """Its exit code, and all that it has written to stdout and stderr."""
        out, err = self.process.communicate(timeout=GUARD)
        return self.process.returncode, out, "".join(self.written) + err


@contextmanager
def program(source: str) -> Iterator[Program]:
    """Run it; it is killed when a test has waited for too long."""
    command = [sys.executable, "-c", PROGRAM + source]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(3 * GUARD, process.kill)
        watchdog.start()
        try:
            yield Program(process)
        finally:
            watchdog.cancel()
            process.kill()


def client(port: int) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}/ws", proxy=None, open_timeout=GUARD, close_timeout=GUARD)


def close_code(peer: ClientConnection) -> int | None:
    """Wait for the server to close."""
    with pytest.raises(ConnectionClosedError):
        while True:
            peer.recv(GUARD)
    return peer.close_code


# ---- Signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_shuts_down_gracefully(number: signal.Signals, loop: str) -> None:
    with program(f"app.run('127.0.0.1', 0, loop={loop!r})") as it:
        port = it.port()
        with client(port) as one, client(port) as two:
            for peer in (one, two):
                peer.send("hello")
                assert peer.recv(GUARD) == "hello"
            it.process.send_signal(number)
            assert [close_code(one), close_code(two)] == [1012, 1012]
        code, out, err = it.end()
    assert code == 0
    assert out == "closed 1012\n" * 2
    assert "Shutting down; closing 2 connections over 0.0 s" in err
    assert re.search(r"Stopped after \d\.\d s; of 2 connections, 0 were cut off", err)
    assert "Traceback" not in err
    assert len(err.splitlines()) == 3


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_an_idle_server_ends_it(number: signal.Signals, loop: str) -> None:
    with program(f"app.run('127.0.0.1', 0, loop={loop!r})") as it:
        it.port()
        it.process.send_signal(number)
        code, _, err = it.end()
    assert code == 0
    assert "Stopped after 0.0 s; of 0 connections, 0 were cut off" in err


@pytest.mark.parametrize("loop", LOOPS)
def test_a_handler_that_never_returns_is_waited_for_no_longer_than_shutdown_timeout(loop: str) -> None:
    with program(f"app.run('127.0.0.1', 0, loop={loop!r}, shutdown_timeout=0.2)") as it, client(it.port()) as peer:
        peer.send("block")
        assert peer.recv(GUARD) == "blocked"
        it.process.send_signal(signal.SIGTERM)
        assert close_code(peer) == 1012
        code, out, _ = it.end()
    assert code == 0
    assert out == "closed 1012\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_does_not_wait_for_the_peers(loop: str) -> None:
    with program(f"app.run('127.0.0.1', 0, loop={loop!r}, shutdown_timeout=1000)") as it, client(it.port()) as peer:
        peer.send("block")
        assert peer.recv(GUARD) == "blocked"
        it.process.send_signal(signal.SIGINT)
        assert close_code(peer) == 1012
        it.process.send_signal(signal.SIGINT)
        code, out, err = it.end()
    assert code == 0
    assert out == "closed 1012\n"
    assert "Traceback" not in err


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_does_not_wait_until_all_are_closed(loop: str) -> None:
    slow = "app = App(close_rate=0.001)\napp.mount('/ws', ws)\n"
    source = f"{slow}app.run('127.0.0.1', 0, loop={loop!r}, shutdown_timeout=10000)"
    with program(source) as it:
        port = it.port()
        with client(port) as one, client(port) as two:
            for peer in (one, two):
                peer.send("hello")
                assert peer.recv(GUARD) == "hello"
            it.process.send_signal(signal.SIGTERM)
            assert close_code(one) == 1012
            two.send("hello")
            assert two.recv(GUARD) == "hello"
            it.process.send_signal(signal.SIGTERM)
            assert close_code(two) == 1012
        code, _, err = it.end()
    assert code == 0
    assert "Shutting down; closing 2 connections over 2000.0 s" in err
    assert re.search(r"Stopped after \d+\.\d s; of 2 connections, [012] were cut off", err)
    assert "Traceback" not in err


@pytest.mark.parametrize("loop", LOOPS)
def test_run_returns_and_may_be_called_again(loop: str) -> None:
    source = f"""
for _ in range(2):
    assert app.run('127.0.0.1', 0, loop={loop!r}) is None
    print("returned", flush=True)
"""
    with program(source) as it:
        for number in SIGNALS:
            with client(it.port()) as peer:
                peer.send("hello")
                assert peer.recv(GUARD) == "hello"
                it.process.send_signal(number)
                assert close_code(peer) == 1012
            assert "Shutting down" in it.line()
            assert "Stopped" in it.line()
        code, out, _ = it.end()
    assert code == 0
    assert out == "closed 1012\nreturned\n" * 2


# ---- Addresses that can not be bound ---------------------------------------------------------------------------------


def given_up(source: str) -> str:
    """The one line that a program writes which can not listen."""
    with program(source) as it:
        code, out, err = it.end()
    assert code == 1
    assert out == ""
    assert err.count("\n") == 1, err
    return err.rstrip("\n")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_port_in_use_is_one_line_and_exit_code_1(loop: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = given_up(f"app.run('127.0.0.1', {port}, loop={loop!r})")
    assert line == f"crest: cannot listen on 127.0.0.1:{port}: the port is in use"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_bad_host_is_one_line_and_exit_code_1(loop: str) -> None:
    line = given_up(f"app.run('256.256.256.256', 0, loop={loop!r})")
    assert line == "crest: cannot listen on 256.256.256.256:0: there is no such host"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_port_out_of_range_is_one_line_and_exit_code_1(loop: str) -> None:
    line = given_up(f"app.run('127.0.0.1', 65536, loop={loop!r})")
    assert line == "crest: cannot listen on 127.0.0.1:65536: a port is 0 to 65535"


@pytest.mark.skipif(
    not UNPRIVILEGED_PORT_START.exists() or int(UNPRIVILEGED_PORT_START.read_text()) <= 81,
    reason="port 81 needs no privileges here",
)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_privileged_port_is_one_line_and_exit_code_1(loop: str) -> None:
    source = "import encodings.idna\n" + ("import uvloop\n" if loop == "uvloop" else "")
    if os.geteuid() == 0:
        source += "os.setgid(65534); os.setuid(65534)\n"  # nobody, who may not import from root's directories
    line = given_up(source + f"app.run('127.0.0.1', 81, loop={loop!r})")
    assert line == "crest: cannot listen on 127.0.0.1:81: no permission; ports below 1024 may need privileges"


# ---- Log lines -------------------------------------------------------------------------------------------------------


def stopped(source: str, ready: Callable[[Program], object]) -> str:
    """What a program has written to stderr that was stopped once it was ready."""
    with program(source) as it:
        ready(it)
        it.process.send_signal(signal.SIGTERM)
        code, _, err = it.end()
    assert code == 0
    return err


def test_run_logs_to_stderr_with_time_and_level() -> None:
    err = stopped("app.run('127.0.0.1', 0)", Program.port)
    for line in err.splitlines():
        assert re.match(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO (Listening on|Shutting down|Stopped after)", line
        ), line


def test_run_leaves_logging_alone_that_the_program_has_set_up() -> None:
    source = "import logging\nlogging.basicConfig(format='MINE %(message)s', level='INFO')\napp.run('127.0.0.1', 0)"
    err = stopped(source, Program.port)
    assert [line.split()[0] for line in err.splitlines()] == ["MINE"] * 3


def test_log_level_says_what_run_logs() -> None:
    source = """
class Ready(App):
    def listening(self, *args, **options):
        print("ready", file=sys.stderr, flush=True)
        return super().listening(*args, **options)
del app
Ready().run("127.0.0.1", 0, log_level="WARNING")
"""
    assert stopped(source, Program.line) == "ready\n"


def test_run_uses_uvloop_where_it_is_installed() -> None:
    pytest.importorskip("uvloop")
    source = """
@ws.on_connect
def connected(conn):
    conn.send(type(asyncio.get_running_loop()).__module__)
app.run("127.0.0.1", 0)
"""
    with program(source) as it, client(it.port()) as peer:
        assert peer.recv(GUARD) == "uvloop"


def test_run_refuses_two_servers_on_one_path_at_start_up() -> None:
    with program("other = WebSocketServer()\napp.run('127.0.0.1', 0)") as it:
        code, _, err = it.end()
    assert code == 1
    assert "two servers at '/ws': <WebSocketServer '/ws' made at " in err.splitlines()[-1]


# ---- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_a_certificate_that_is_not_there_is_one_line_and_exit_code_1(loop: str) -> None:
    line = given_up(f"app.run('127.0.0.1', 0, certfile='absent.pem', loop={loop!r})")
    assert line == "crest: cannot serve TLS: absent.pem: No such file or directory"


@pytest.mark.parametrize("loop", LOOPS)
def test_sighup_reads_the_certificate_again(loop: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    source = f"app.run('127.0.0.1', 0, certfile={str(pair.certfile)!r}, keyfile={str(pair.keyfile)!r}, loop={loop!r})"
    with program(source) as it:
        port = it.port("https")
        with secure_client(port, pair) as old:
            pair.make()
            it.process.send_signal(signal.SIGHUP)
            assert "The certificate was read again" in it.line()
            with secure_client(port, pair) as new:
                for peer in (old, new):
                    peer.send("hello")
                    assert peer.recv(GUARD) == "hello"
                pair.keyfile.unlink()
                it.process.send_signal(signal.SIGHUP)
                assert "ERROR The certificate remains as it was: cannot serve TLS: " in it.line()
                it.process.send_signal(signal.SIGTERM)
                assert [close_code(old), close_code(new)] == [1012, 1012]
        code, _, err = it.end()
    assert code == 0
    assert "Traceback" not in err


def secure_client(port: int, pair: Pair) -> ClientConnection:
    return connect(f"wss://127.0.0.1:{port}/ws", ssl=pair.client(), proxy=None, open_timeout=GUARD)
