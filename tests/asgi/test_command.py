"""uvicorn's command, with its workers."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="needs the group `asgi`")

from support.client import GUARD
from support.crowd import Session

SOURCE = """
import os
from crest import WebSocketServer
from crest.asgi import WebSocketProtocol

ws = WebSocketServer()

@ws.on_message
def received(conn, message):
    conn.send(f"at {os.getpid()}:0" if message == "who" else message)

async def app(scope, receive, send):
    await ws(scope, receive, send)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it is ended by a signal")
@pytest.mark.parametrize("way", ["option", "environment"])
def test_workers(way: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SOURCE)
    name = "crest.asgi:WebSocketProtocol"
    command = [sys.executable, "-m", "uvicorn", "program:app", "--port", "0", "--workers", "2"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if way == "option":
        command += ["--ws", name]
    else:
        environment["UVICORN_WS"] = name
    program = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert program.stderr is not None
        lines = []
        while sum("startup complete" in line for line in lines) < 2:
            lines.append(program.stderr.readline())
            assert lines[-1], "".join(lines)
        (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)", "".join(lines))
        session = Session(int(port), None)
        session.sock.settimeout(GUARD)
        while not session.process:
            session.sock.setblocking(True)
            session._data += session.sock.recv(1000)
            session._parse()
        assert session.process not in (0, program.pid)
        session.say("hello")
        assert session.sock.recv(100) == b"\x81\x05hello"
        session.sock.close()
    finally:
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate(timeout=GUARD)
    assert program.returncode == 0, rest
    assert "Traceback" not in "".join(lines) + rest
