"""crest.cluster.supervisor: workers of programs that run in processes of their own."""

import asyncio
import os
import re
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.certificates import Pair
from support.client import GUARD
from support.workers import is_gone, wait_for, workers
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from crest import ConfigurationError
from crest.cluster.child import how
from crest.cluster.supervisor import supervise
from crest.listening.endpoint import addresses_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers on Windows")

TWO = "app.run(port=0, workers=2)"


def client(port: int) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}/ws", open_timeout=GUARD, close_timeout=GUARD)


def close_of(connection: ClientConnection) -> tuple[int, str]:
    """The code and reason of the close frame that comes."""
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=GUARD)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


# ---- Start and end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_serve_until_a_signal(number: int) -> None:
    with workers(TWO + '\nsay("after run", os.getpid())') as program:
        processes = program.serve(2)
        with client(program.port) as connection:
            connection.send("who?")
            assert int(connection.recv(timeout=GUARD)) in processes.values()
            program.signal(number)
            code, _ = close_of(connection)
            assert code == 1012
        code, written = program.end()
        assert code == 0
        assert re.findall(r"^after run (\d+)$", written, re.MULTILINE) == [str(program.process.pid)]
        assert sorted(re.findall(r"^stopped (\d)", written, re.MULTILINE)) == ["1", "2"]
        assert "[worker 1] " in written and "[worker 2] " in written
        assert all(map(is_gone, processes.values()))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", program.port))


def test_a_terminal_s_ctrl_c_reaches_all_processes_and_hurries_none() -> None:
    """It goes to the whole group: the workers leave it to the supervisor."""
    with workers(TWO) as program:
        program.serve(2)
        with client(program.port) as connection:
            os.killpg(program.process.pid, signal.SIGINT)
            assert close_of(connection)[0] == 1012  # and not cut off
        code, written = program.end()
        assert code == 0 and "KeyboardInterrupt" not in written


def test_a_second_signal_waits_for_no_client() -> None:
    with workers("app.run(port=0, workers=2, shutdown_timeout=3600)") as program:
        program.serve(2)
        with socket.create_connection(("127.0.0.1", program.port)) as silent:
            silent.sendall(
                b"GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert silent.recv(1000).startswith(b"HTTP/1.1 101")
            program.signal(signal.SIGTERM)
            program.until("Shutting down; closing 1 ")
            program.signal(signal.SIGTERM)
            assert program.end()[0] == 0


def test_a_third_signal_kills() -> None:
    with workers("@app.on_stop\ndef hang():\n    say('hangs')\n    signal.pause()\n" + TWO) as program:
        program.serve(2)
        program.signal(signal.SIGTERM)
        program.until("^hangs", "^hangs$")
        program.signal(signal.SIGTERM)
        program.signal(signal.SIGTERM)
        code, written = program.end()
        assert code == 0
        assert "worker 1 is killed" in written and "worker 2 is killed" in written


@pytest.mark.parametrize("source", ["raise ValueError('no database')", "sys.exit('no database')"])
def test_if_the_first_worker_can_not_start_all_ends_with_its_message(source: str) -> None:
    failing = f"@app.on_start\ndef fail():\n    {source}\n" + TWO
    with workers(failing) as program:
        code, written = program.end()
        assert code == 3
        assert written.count("no database") == 1 + written.count("raise ValueError('no database')")
        assert "The first worker could not start: exit code 1" in written


def test_a_program_that_ends_before_run_has_not_started() -> None:
    with workers("if 'CREST_WORKER' in os.environ:\n    sys.exit(5)\n" + TWO) as program:
        code, written = program.end()
        assert code == 3 and "The first worker could not start: exit code 5" in written


def test_sockets_that_each_worker_would_bind_anew_are_refused() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as bound,
        pytest.raises(ConfigurationError, match="listen takes no sock"),
    ):
        asyncio.run(supervise(2, 1, addresses_of(None, 0, bound, None, None), False, [], 1))


def test_a_thread_can_not_have_workers() -> None:
    with ThreadPoolExecutor() as pool, pytest.raises(ConfigurationError, match="in the main thread"):
        pool.submit(lambda: asyncio.run(supervise(2, 1, [], False, [], 1))).result()


def test_a_port_that_is_taken_is_told_of_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with workers(f"app.run(port={port}, workers=2)") as program:
            code, written = program.end()
            assert code == 1
            assert written == f"crest: cannot listen on 127.0.0.1:{port}: the port is in use"


def test_several_runs_of_one_program() -> None:
    with workers(f'say("first", os.getpid())\n{TWO}\nsay("second", os.getpid())\n{TWO}\nsay("end")') as program:
        program.serve(2)
        program.signal(signal.SIGTERM)
        program.serve(2)
        program.signal(signal.SIGTERM)
        code, written = program.end()
        assert code == 0
        assert written.count("\nend") == 1


def test_a_process_that_a_worker_starts_is_no_worker() -> None:
    inner = "import os; from crest.cluster.enlisted import enlisted; os.write(1, f'{enlisted()}\\n'.encode())"
    source = f"import subprocess\n@app.on_start\ndef run():\n    subprocess.run([sys.executable, '-c', {inner!r}])\n"
    with workers(source + TWO) as program:
        program.until("^None$", "^None$", "2 workers serve")


def test_unix_sockets_are_removed(tmp_path: Path) -> None:
    with workers("app.run(unix='app.sock', workers=2)", tmp_path) as program:
        program.serve(2)
        assert (tmp_path / "app.sock").exists()
        program.signal(signal.SIGTERM)
        assert program.end()[0] == 0
        assert not (tmp_path / "app.sock").exists()


# ---- Failures --------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_is_replaced_and_others_go_on() -> None:
    with workers(TWO) as program:
        processes = program.serve(2)
        with client(program.port) as one, client(program.port) as other:
            connections = {}
            for connection in (one, other):
                connection.send("who?")
                connections[int(connection.recv(timeout=GUARD))] = connection
            victim, *rest = processes.values()
            os.kill(victim, signal.SIGKILL)
            program.until(
                r"worker 1 \(process \d+\) has ended: SIGKILL; the next one starts in 0\.[01] s", "^started 1 "
            )
            for process, connection in connections.items():
                if process in rest:
                    connection.send("still there?")
                    assert int(connection.recv(timeout=GUARD)) == process


def test_the_functions_of_once_move_to_another_worker() -> None:
    with workers(TWO) as program:
        processes = program.serve(2)
        holder = int(next(line for line in program.lines if line.startswith("once ")).split()[1])
        os.kill(processes[holder], signal.SIGKILL)
        program.until("^once ", f"^started {holder} ")
        program.signal(signal.SIGTERM)
        _, written = program.end()
        assert re.findall(r"^(?:once|left) \d", written, re.MULTILINE) == [
            f"once {holder}",
            f"once {3 - holder}",
            f"left {3 - holder}",
        ]


def test_when_the_supervisor_is_killed_the_workers_close_and_end() -> None:
    with workers(TWO) as program:
        processes = program.serve(2)
        with client(program.port) as connection:
            program.signal(signal.SIGKILL)
            assert close_of(connection)[0] == 1012
        _, written = program.end()
        assert len(re.findall("The supervisor is gone: this worker ends", written)) == 2
        wait_for(lambda: all(map(is_gone, processes.values())))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", program.port))


def test_a_worker_that_is_busy_is_named_and_not_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    source = """
from crest.cluster import place, worker
place.BUSY, worker.BEAT = 1.0, 0.05

@ws.on_binary
def hold(conn, data):
    open("gate").close()  # waits until the test opens it
    conn.send("free")

"""
    with workers(source + TWO, tmp_path) as program:
        processes = program.serve(2)
        with client(program.port) as connection:
            connection.send("who?")
            process = int(connection.recv(timeout=GUARD))
            connection.send(b"hold")
            program.until(rf"\(process {process}\) is busy: its loop has not turned for \d+ s")
            (tmp_path / "gate").open("w").close()
            assert connection.recv(timeout=GUARD) == "free"
            program.until("is no longer busy")
        assert not is_gone(process) and process in processes.values()


# ---- Signals ---------------------------------------------------------------------------------------------------------


def test_usr2_replaces_all_workers_and_each_client_is_told_to_come_back() -> None:
    with workers(TWO) as program:
        before = program.serve(2)
        with client(program.port) as one, client(program.port) as other:
            program.signal(signal.SIGUSR2)
            assert close_of(one)[0] == close_of(other)[0] == 1012
            program.until("2 workers were replaced")
        after = {int(line.split()[1]): int(line.split()[2]) for line in program.lines if line.startswith("started ")}
        assert set(after) == {1, 2} and not set(after.values()) & set(before.values())
        assert all(map(is_gone, before.values()))
        with client(program.port) as connection:
            connection.send("who?")
            assert int(connection.recv(timeout=GUARD)) in after.values()


def test_a_service_manager_is_told_what_happens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(GUARD)

        def until(state: str) -> None:
            while state not in manager.recv(1000).decode().splitlines():
                pass

        with workers(TWO, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000") as program:
            until("READY=1")
            program.serve(2)
            until("WATCHDOG=1")
            until("WATCHDOG=1")
            program.signal(signal.SIGUSR2)
            until("RELOADING=1")
            until("READY=1")
            program.signal(signal.SIGTERM)
            until("STOPPING=1")
            assert program.end()[0] == 0


def test_a_second_usr2_begins_the_roll_anew(tmp_path: Path) -> None:
    """The worker that was about to start ends, and none of those that serve."""
    source = """
@app.on_start
async def slow():
    if os.path.exists("hold"):
        say("waits", app.worker, os.getpid())
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
"""
    with workers(source + TWO, tmp_path) as program:
        before = program.serve(2)
        (tmp_path / "hold").touch()
        program.signal(signal.SIGUSR2)
        first = int(program.until("^waits 1")[0].split()[2])
        program.signal(signal.SIGUSR2)
        second = int(program.until("^waits 1")[0].split()[2])
        assert first != second and not any(map(is_gone, before.values()))
        (tmp_path / "go").touch()
        program.until("2 workers were replaced")
        assert all(map(is_gone, [*before.values(), first])) and not is_gone(second)


def test_ends_are_named() -> None:
    assert [how(code) for code in (None, 3, -9, -250)] == ["exit code None", "exit code 3", "SIGKILL", "signal 250"]


def test_a_roll_whose_worker_can_not_start_leaves_the_old_ones(tmp_path: Path) -> None:
    source = f"if os.path.exists('broken'):\n    sys.exit('broken')\n{TWO}"
    with workers(source, tmp_path) as program:
        before = program.serve(2)
        (tmp_path / "broken").touch()
        program.signal(signal.SIGUSR2)
        program.until("^broken", "A new worker could not start: those that run go on")
        with client(program.port) as connection:
            connection.send("who?")
            assert int(connection.recv(timeout=GUARD)) in before.values()


def test_hup_has_all_workers_read_the_certificate_again(tmp_path: Path, pair: Pair) -> None:
    source = f"app.run(port=0, workers=2, certfile={str(pair.certfile)!r}, keyfile={str(pair.keyfile)!r})"
    with workers(source) as program:
        program.serve(2)
        program.signal(signal.SIGHUP)
        program.until(r"\[worker 1\] The certificate was read again", r"\[worker 2\] The certificate was read again")
