"""Proxies that are not crest's, for tests: HAProxy, nginx and Caddy, each in a process of its own."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.client import GUARD

PATH = "/usr/sbin:/usr/local/sbin"
"""Where Debian has them, beside what the user's PATH says."""

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path=PATH)
NGINX = shutil.which("nginx") or shutil.which("nginx", path=PATH)
CADDY = shutil.which("caddy")

needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
needs_caddy = pytest.mark.skipif(CADDY is None, reason="caddy is not installed")


def free_socket() -> socket.socket:
    """A socket that listens, for HAProxy or nginx to take over."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


@contextmanager
def haproxy(configuration: str, folder: Path, *sockets: socket.socket) -> Iterator[None]:
    """HAProxy with a configuration, which may name these sockets by their descriptors ("fd@3")."""
    assert HAPROXY is not None
    file = folder / "haproxy.cfg"
    file.write_text(configuration)
    descriptors = [each.fileno() for each in sockets]
    process = subprocess.Popen([HAPROXY, "-db", "-q", "-f", str(file)], pass_fds=descriptors, stderr=subprocess.PIPE)
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=GUARD)


def haproxy_on(configuration: str, folder: Path) -> str:
    """What HAProxy says of a configuration: nothing if it has no fault."""
    assert HAPROXY is not None
    file = folder / "haproxy.cfg"
    file.write_text(configuration)
    command = [HAPROXY, "-c", "-q", "-f", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=GUARD).stderr


def nginx(
    configuration: str, folder: Path, *arguments: str, sock: socket.socket | None = None
) -> subprocess.Popen[str]:
    """Start nginx in the foreground with a configuration of its HTTP part; what it says comes by the pipe of stderr.

    Args:
        sock: Listens, at an address that the configuration has. nginx takes it over, as from an older nginx.
    """
    assert NGINX is not None
    temporary = "".join(
        f"{name}_temp_path {folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root it would give its workers a user who may not enter the folder.
    user = "user root root;" if os.geteuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; worker_processes 1; {user} pid {folder / 'nginx.pid'}; error_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{configuration}\n}}\n"
    )
    passed = () if sock is None else (sock.fileno(),)
    inherited = {} if sock is None else {"NGINX": f"{sock.fileno()};"}
    return subprocess.Popen(
        [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(file), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=passed,
        env={**os.environ, **inherited},
    )


@contextmanager
def caddy(configuration: Callable[[int], str], folder: Path) -> Iterator[int]:
    """Caddy with a configuration for a port, which it can not take over: one that is free, and that no system hands out
    by itself. Yields the port."""
    assert CADDY is not None
    file = folder / "Caddyfile"
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    said = ""
    for port in random.sample(range(10000, 32000), 5):
        file.write_text("{\nadmin off\nauto_https disable_redirects\n}\n" + configuration(port))
        command = [CADDY, "run", "--adapter", "caddyfile", "--config", str(file)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            assert process.stderr is not None
            for line in process.stderr:
                said += line
                if "serving initial configuration" in line:
                    yield port
                    return
        finally:
            process.terminate()
            process.communicate(timeout=GUARD)
    raise AssertionError(f"Caddy does not start: {said}")
