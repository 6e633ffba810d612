"""A program with workers, in processes of its own, and what it writes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.client import GUARD

PROGRAM = """
import asyncio, os, signal, sys, time
from crest import App, WebSocketServer

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # whole, whatever other workers write

app = App(shutdown_timeout=2)
ws = WebSocketServer()

@app.on_start
def start():
    say("started", app.worker, os.getpid())

@app.on_stop
def stop():
    say("stopped", app.worker, os.getpid())

@app.once
async def once():
    say("once", app.worker)
    try:
        await asyncio.Event().wait()
    finally:
        say("left", app.worker)

@ws.on_message
def received(conn, message):
    conn.send(str(os.getpid()))
"""
"""The beginning of each; what a test adds calls `app.run`."""


class Workers:
    """A program that runs.

    Attributes:
        process: The supervisor.
        lines: What it and its workers have written, to stdout and stderr.
        port: Where it listens, once the log has said so.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.port = 0

    def read(self) -> str:
        """The next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the program has ended; it wrote {self.lines}"
        line = line.rstrip("\n")
        self.lines.append(line)
        found = re.search(r"Listening on https?://127\.0\.0\.1:(\d+) ", line)
        if found:
            self.port = int(found[1])
        return line

    def until(self, *patterns: str) -> list[str]:
        """What matches each of these, from here on, in whatever order. Each is found in a line of its own."""
        found: dict[int, str] = {}
        while len(found) < len(patterns):
            line = self.read()
            for at, pattern in enumerate(patterns):
                if at not in found and re.search(pattern, line):
                    found[at] = line
                    break
        return [found[at] for at in range(len(patterns))]

    def serve(self, count: int) -> dict[int, int]:
        """The process of each worker, once all of them serve."""
        lines = self.until(*(rf"^started {number} " for number in range(1, count + 1)), f"{count} workers serve")
        return {int(line.split()[1]): int(line.split()[2]) for line in lines[:-1]}

    def exchange(self) -> int:
        """The process of the exchange: a child of the supervisor that runs no user's code."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        if not os.path.exists(children):
            pytest.skip("this system does not list the children of a process")
        with open(children) as listed:
            for process in map(int, listed.read().split()):
                with open(f"/proc/{process}/cmdline") as line:
                    if "crest.cluster.exchange" in line.read():
                        return process
        raise AssertionError("there is no exchange")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Its exit code, and all that was written. All workers have closed their stdout by then."""
        out, _ = self.process.communicate(timeout=3 * GUARD)
        self.lines += out.splitlines()
        return self.process.returncode, "\n".join(self.lines)


@contextmanager
def workers(source: str, folder: Path | None = None, **environment: str) -> Iterator[Workers]:
    """Run a program: PROGRAM and what follows. What is left of it is killed in the end, or when it takes too long."""
    with running(PROGRAM + source, folder, **environment) as program:
        yield program


@contextmanager
def running(source: str, folder: Path | None = None, **environment: str) -> Iterator[Workers]:
    """Run a whole program."""
    command = [sys.executable, "-W", "error", "-c", source]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=folder,
        env={**os.environ, **environment},
    )

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    watchdog = threading.Timer(6 * GUARD, kill)
    watchdog.start()
    try:
        with process:
            try:
                yield Workers(process)
                if process.poll() is None:  # so that what was traced is written down
                    process.terminate()
                    process.communicate(timeout=3 * GUARD)
            finally:
                kill()
    finally:
        watchdog.cancel()


def is_gone(process: int) -> bool:
    """True if there is no such process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait until it has; the watchdog ends what takes too long."""
    done = threading.Event()
    while not happened():
        done.wait(0.01)
