"""Measure crest beside its peers over real sockets: `compare.py [--quick]`. README.md says what the figures mean.

Owns the rounds and what is made of them. measurement.py starts the servers; report.py and chart.py show what came out.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import chart
import report
from measurement import (
    BENCHES,
    PEERS,
    ROOT,
    SCENARIOS,
    SERVERS,
    VENV,
    VENV_PYTHON,
    Scenario,
    Server,
    measure,
    processors,
)

Figures = dict[str, Any]

QUICK_ROUNDS, QUICK_SECONDS = 1, 0.3


def install_peers() -> None:
    """Create the peers' environment and install what peers.txt pins; a peer that does not install is reported."""
    requirements = (BENCHES / "peers.txt").read_text()
    digest = hashlib.sha256((requirements + sys.version).encode()).hexdigest()
    stamp = VENV / "peers.sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return
    if not VENV_PYTHON.exists():
        print(f"creating {VENV}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    failed = []
    for line in requirements.splitlines():
        requirement = line.partition("#")[0].strip()
        if not requirement:
            continue
        print(f"installing {requirement}", flush=True)
        if not _install(requirement):
            failed.append(requirement)
    if failed:
        print(f"not installed: {', '.join(failed)}; their servers will be shown as failed", flush=True)
    else:
        stamp.write_text(digest)


def _install(requirement: str) -> bool:
    """Install one peer, of PyPI or behind "npm:" of npm; False if that fails."""
    command = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", requirement]
    if requirement.startswith("npm:"):
        command = ["npm", "install", "--silent", "--no-save", "--prefix", str(VENV), requirement.removeprefix("npm:")]
    try:
        return subprocess.run(command, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _output(*arguments: str) -> str:
    """What a command prints, without the end of line; empty if it fails."""
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def versions(servers: list[Server]) -> dict[str, str]:
    """Each server's version, as its own interpreter knows it, or it itself."""
    program = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    found = {}
    for server in servers:
        if server.distribution:
            found[server.name] = _output(server.command[0], "-c", program, server.distribution) or "not installed"
        elif server.name != "limit":
            found[server.name] = _output(server.command[0], "--version") or "not installed"
    commit = _output("git", "rev-parse", "--short", "HEAD")
    if commit and "crest" in found:
        changed = " with changes" if _output("git", "status", "--porcelain", "--", "src", "setup.py") else ""
        found["crest"] += f" ({commit}{changed})"
    return found


def machine() -> dict[str, str]:
    cpus = processors()
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores",
        "pinning": f"server on CPU {cpus[0]}, load on CPU {cpus[1]}" if cpus else "none: server and load share a CPU",
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "uvloop": _output(sys.executable, "-c", "import uvloop; print(uvloop.__version__)"),
        "uvloop of the peers": _output(str(VENV_PYTHON), "-c", "import uvloop; print(uvloop.__version__)"),
    }


def summarize(scenario: Scenario, runs: dict[str, list[Figures]]) -> dict[str, Figures]:
    """Reduce the runs of each server, one a round, to median, spread and ratio to `limit` of the same round."""
    units = [run.get(scenario.figure) for run in runs["limit"]]
    summary = {}
    for name, results in runs.items():
        figures = [result.get(scenario.figure) for result in results]
        good = [figure for figure in figures if figure is not None]
        entry: Figures = {"runs": results, "errors": [result["error"] for result in results if "error" in result]}
        if good:
            entry |= {"median": statistics.median(good), "lowest": min(good), "highest": max(good)}
            ratios = [figure / unit for figure, unit in zip(figures, units, strict=True) if figure is not None and unit]
            if ratios and scenario.unit == "us":
                entry["ratio"] = statistics.median(ratios)
            if scenario.rate:
                rates = [result[scenario.rate] for result in results if scenario.rate in result]
                entry["per_second"] = statistics.median(rates)
        summary[name] = entry
    return summary


def run_scenario(scenario: Scenario, servers: list[Server], rounds: int, seconds: float) -> dict[str, Figures]:
    """Measure all servers once in each round; who goes first changes from round to round."""
    servers = [server for server in servers if server.serves(scenario)]
    runs: dict[str, list[Figures]] = {server.name: [] for server in servers}
    print(f"\n{scenario.name}: {scenario.load}", flush=True)
    for number in range(rounds):
        first = number % len(servers)
        for server in servers[first:] + servers[:first]:
            result = measure(server, scenario, seconds)
            runs[server.name].append(result)
            said = result.get("error") or f"{result.get(scenario.figure, float('nan')):,.3f} {scenario.unit}"
            print(f"  round {number + 1}/{rounds}  {server.name:<12} {said}", flush=True)
    return summarize(scenario, runs)


def write(directory: Path, record: Figures) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("comparison.json", json.dumps(record, indent=1) + "\n"),
        ("comparison.md", report.markdown(record)),
        ("comparison.svg", chart.svg(record)),
    ):
        (directory / name).write_text(text)
        print(f"wrote {directory / name}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure crest beside its peers over real sockets.")
    parser.add_argument("--rounds", type=int, help="measurements of each server and scenario (5)")
    parser.add_argument("--seconds", type=float, help="seconds of each measurement (2)")
    parser.add_argument("--scenario", action="append", choices=[each.name for each in SCENARIOS], help="only these")
    parser.add_argument("--server", action="append", choices=[each.name for each in SERVERS], help="these and limit")
    parser.add_argument("--quick", action="store_true", help="one short round, only to see that everything works")
    parser.add_argument("--output", type=Path, help="directory (benches/results; with --quick, build/comparison)")
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = QUICK_ROUNDS if arguments.quick else 5
    if arguments.seconds is None:
        arguments.seconds = QUICK_SECONDS if arguments.quick else 2.0
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    if arguments.output is None:
        arguments.output = ROOT / "build" / "comparison" if arguments.quick else BENCHES / "results"
    return arguments


def _quick(scenario: Scenario) -> Scenario:
    """Hold fewer connections open, in fewer rooms of ten."""
    load = scenario.load.replace("15000", "1000").replace("1500", "100")
    title = scenario.title.replace("15,000", "1,000")
    return dataclasses.replace(scenario, load=load, title=title)


def compare(arguments: argparse.Namespace) -> Figures:
    wanted = {"limit", *arguments.server} if arguments.server else {server.name for server in SERVERS}
    servers = [server for server in SERVERS if server.name in wanted]
    scenarios = [each for each in SCENARIOS if not arguments.scenario or each.name in arguments.scenario]
    if arguments.quick:
        scenarios = [_quick(each) for each in scenarios]
    subprocess.run(["make", "--silent", "-C", str(BENCHES / "load")], check=True)
    if wanted.intersection(peer.name for peer in PEERS):
        install_peers()
    began = time.monotonic()
    record: Figures = {
        "machine": machine(),
        "versions": versions(servers),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "quick": arguments.quick,
        "scenarios": {},
    }
    for scenario in scenarios:
        record["scenarios"][scenario.name] = dataclasses.asdict(scenario) | {
            "servers": run_scenario(scenario, servers, arguments.rounds, arguments.seconds)
        }
    print(f"\n{time.monotonic() - began:.0f} s")
    return record


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    arguments = parse_arguments()
    if sys.platform != "linux":
        print("compare.py needs Linux: epoll, /proc")
        return 2
    signal.signal(signal.SIGTERM, _terminate)
    try:
        record = compare(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing written", file=sys.stderr)
        return 130
    write(arguments.output, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
