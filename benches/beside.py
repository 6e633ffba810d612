"""What workers.py shows beside the bus: python-socketio's Redis manager, and two workers beside one."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from measurement import BINARIES, VENV_PYTHON, end, free_port, start, wait_until_it_listens

HERE = Path(__file__).parent
LOADS = {
    "echo": ["echo --connections 100 --depth 8"] * 2,
    "bcast": ["bcast --connections 1000 --depth 16"],
}
"""What each process of the load generator does. Two that broadcast would get each other's messages."""


def socketio() -> dict[str, Any]:
    """What socketio_bus.py says, or why it says nothing."""
    try:
        done = subprocess.run(
            [str(VENV_PYTHON), str(HERE / "socketio_bus.py")], capture_output=True, text=True, timeout=300, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {"error": f"{error}: `make compare` installs the peers, and redis-server is needed"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _spent() -> float:
    """Seconds of CPU time of processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def together(mode: str, workers: int, seconds: float) -> dict[str, Any]:
    """Messages or deliveries a second of so many workers, and how many processors the load generator has used."""
    port = free_port()
    server = start(
        [sys.executable, str(HERE / "servers" / "crest_server.py"), str(port), f"{mode}-{workers}"],
        None,
        stderr=subprocess.DEVNULL,
    )
    try:
        refused = wait_until_it_listens(server, port)
        if refused:
            return {"error": refused}
        before = _spent()
        commands = [
            [str(BINARIES / "load"), *each.split(), "--seconds", str(seconds), str(port)] for each in LOADS[mode]
        ]
        loads = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in commands]
        said = [json.loads(each.communicate()[0] or '{"messages_per_second": 0}') for each in loads]
        return {
            "per_second": round(sum(each["messages_per_second"] for each in said)),
            "load_cores": round((_spent() - before) / seconds, 2),
        }
    finally:
        end(server)


def aggregate(seconds: float) -> dict[str, Any]:
    """Two workers beside one, on all processors that there are, which the load generator shares."""
    found: dict[str, Any] = {}
    for mode in LOADS:
        one, two = (together(mode, workers, seconds) for workers in (1, 2))
        found[mode] = {"one": one, "two": two}
        if "error" not in one | two:
            found[mode]["ratio"] = round(two["per_second"] / one["per_second"], 2)
    return found
