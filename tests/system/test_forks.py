"""A handler forks: the child is no server, whatever it does, and the parent serves on."""

import os
import signal
import subprocess
import sys

import pytest
from support.certificates import Pair
from support.client import GUARD
from support.crowd import Crowd
from support.workers import running

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

PROGRAM = """
import asyncio, os, sys
from crest import App, WebSocketServer
from websockets.sync.client import connect
from urllib.request import urlopen

app, ws = App(), WebSocketServer()
children = []

def fork():
    child = os.fork()
    if not child:
        HOW
    children.append(child)

KIND def message(conn, text):
    fork()
    conn.send("parent")

ws.on_message(message)

KIND def page(request):
    fork()
    return "parent"

app.get("/")(page)

KIND def upgrade(request):
    if "fork" in request.query:
        fork()

ws.on_upgrade(upgrade)

def use(port):
    with connect(f"ws://127.0.0.1:{port}/ws") as bystander, connect(f"ws://127.0.0.1:{port}/ws") as client:
        client.send("x")
        assert client.recv(GUARD) == "parent"
        assert urlopen(f"http://127.0.0.1:{port}/", timeout=GUARD).read() == b"parent"
        with connect(f"ws://127.0.0.1:{port}/ws?fork"):
            pass
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert len(children) == 3
        client.send("x")
        assert client.recv(GUARD) == "parent"
        bystander.ping().wait(GUARD)
        assert os.waitstatus_to_exitcode(os.waitpid(children[3], 0)[1]) == 7

async def main():
    async with app.listening() as server:
        await asyncio.to_thread(use, server.port)
    print("served to the end")

if "LOOP" == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["sys.exit(7)", "os.execvp('sh', ['sh', '-c', 'exit 7'])"])
@pytest.mark.parametrize("kind", ["", "async"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_child_ends_and_the_parent_serves_on(loop: str, kind: str, how: str) -> None:
    source = PROGRAM
    for name, value in (("LOOP", loop), ("KIND ", f"{kind} " if kind else ""), ("HOW", how), ("GUARD", str(GUARD))):
        source = source.replace(name, value)
    # CPython warns from 3.12 on: the program has a thread when it forks.
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", source]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=3 * GUARD, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "served to the end\n", "")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("SystemExit()", 0, ""),
        ("SystemExit(263)", 7, ""),
        ("SystemExit('enough')", 1, "enough\n"),
        ("ValueError('wrong')", 1, "ValueError: wrong\n"),
    ],
)
def test_what_came_out_of_a_handler_is_the_end_of_the_child(raised: str, code: int, said: str) -> None:
    """Its output is not lost, and it does not need any."""
    program = f"""
import os, sys
from crest.io.loop.forks import end_child
child = os.fork()
if not child:
    sys.stdout.write("unflushed")
    sys.stdout = None if {code} else sys.stdout
    end_child({raised})
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=GUARD, check=False, env=buffered)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{'' if code else 'unflushed'}{code}\n", said)


TLS = """
import asyncio, os, socket, ssl, sys, threading
from crest import App, WebSocketServer
from websockets.sync.client import connect

app, ws = App(), WebSocketServer()
begun, answered = threading.Event(), asyncio.Event()

@ws.on_message
def message(conn, text):
    if text == "last":
        answered.set()
    child = os.fork()
    if not child:
        sys.exit(7)
    conn.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))

@app.get("/")
async def page(request):
    begun.set()
    await answered.wait()
    return "page"

def use(port):
    context = ssl.create_default_context(cafile=sys.argv[1])
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1") as waiting:
        waiting.send(b"GET / HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n")
        assert begun.wait(GUARD)
        with connect(f"wss://127.0.0.1:{port}/ws", ssl=context) as client:
            for text in ("first", "last"):
                client.send(text)
                assert client.recv(GUARD) == "7"
        assert waiting.recv(1000).startswith(b"HTTP/1.1 200 ")

async def main():
    async with app.listening(certfile=sys.argv[1], keyfile=sys.argv[2], direct=DIRECT) as server:
        await asyncio.to_thread(use, server.port)
    print("served to the end")

asyncio.run(main())
"""


def test_a_child_of_a_server_that_speaks_tls(direct: bool, pair: Pair) -> None:
    """One connection is being answered, and so not read, while the handler of another forks."""
    source = TLS.replace("GUARD", str(GUARD)).replace("DIRECT", str(direct))
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", source]
    command += [str(pair.certfile), str(pair.keyfile)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=3 * GUARD, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "served to the end\n", "")


IN_A_WORKER = """
import os, sys
from crest import App, WebSocketServer

app, ws = App(), WebSocketServer()

@ws.on_message
def message(conn, text):
    if text == "who":
        conn.send(f"at {os.getpid()}:0")
        return
    child = os.fork()
    if not child:
        HOW
    ws.broadcast(f"{os.getpid()}:{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")

app.run(port=0, workers=2)
"""


@pytest.mark.parametrize("how", ["sys.exit(7)", "os.execvp('sh', ['sh', '-c', 'exit 7'])"])
def test_a_worker_forks(how: str) -> None:
    """The child leaves alone what the workers share: links, counts and sockets."""
    with running(IN_A_WORKER.replace("HOW", how)) as program:
        program.until("2 workers serve")
        with Crowd(program.port) as crowd:
            while len(crowd.processes()) < 2:
                crowd.join()
            for each in crowd.processes():
                for expected in ([7], [7, 7]):
                    crowd.at(each)[0].say("fork")
                    crowd.until(lambda each=each, expected=expected: heard(crowd, each) == expected)
        program.signal(signal.SIGTERM)
        code, written = program.end()
        assert code == 0 and "Traceback" not in written and "has ended" not in written


def heard(crowd: Crowd, publisher: int) -> list[int]:
    """What each of the clients has heard of one publisher; nothing while they have not heard the same."""
    found = [each.heard.get(publisher, []) for each in crowd.sessions]
    return found[0] if found.count(found[0]) == len(found) else []
