"""Count the instructions of the paths in paths.py and compare them with guard.json: `guard.py [--update] [--strict]`.

Instructions are counted by callgrind, and so do not depend on how busy the machine is. What a path costs is the
difference between a run of COUNT and one of twice as many, which start-up drops out of. Interpreter, compiler and
processor do matter, so counts are compared only between like toolchains.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

BENCHES = Path(__file__).resolve().parent
BASELINE = BENCHES / "guard.json"
TOLERANCE = 0.03

# How often each path runs: multiples of its batch, and enough for its own instructions to stand out from chance.
COUNTS = {"receive_text": 6400, "receive_binary": 32, "send": 6400, "broadcast": 1000000, "handshake": 300}

# Counts of toolchains that differ in one of these say nothing about each other.
DECISIVE = ("python", "compiler", "machine", "avx2")


def compiler() -> str:
    """Name and major version of what compiled crest's extension modules, as they say themselves."""
    module = importlib.util.find_spec("crest.io.life.protocol")
    if module is None or module.origin is None:
        raise SystemExit("guard: crest is not installed")
    binary = Path(module.origin).read_bytes()
    found = re.search(rb"(GCC): \([^)]*\) (\d+)\.|(clang) version (\d+)\.", binary)
    return b" ".join(part for part in found.groups() if part).decode() if found else "unknown"


def version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def toolchain() -> dict[str, Any]:
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "python": f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}",
        "compiler": compiler(),
        "machine": platform.machine(),
        "avx2": flags is not None and "avx2" in flags[1].split(),
        "python_full": platform.python_version(),
        "cython": version("cython"),
        "httptools": version("httptools"),
        "multidict": version("multidict"),
        "libc": " ".join(platform.libc_ver()),
        "valgrind": subprocess.run(
            ["valgrind", "--version"], capture_output=True, text=True, check=True
        ).stdout.strip(),
    }


def environment() -> dict[str, str]:
    """The same in every shell: its size moves the stack, and hashes decide how dictionaries are laid out."""
    return {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}


def instructions(path: str, count: int) -> int:
    """Run a path once and count all instructions of the process.

    Raises:
        RuntimeError: It failed; the text says how.
    """
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, str(BENCHES / "paths.py"), path, str(count)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    collected = re.search(r"Collected\s*:\s*(\d+)", run.stderr)
    if run.returncode or not collected:
        raise RuntimeError(f"{path} {count} ended with {run.returncode}:\n{run.stderr[-2000:]}")
    return int(collected[1])


def sources() -> dict[str, int]:
    """When each file of the installed package was last changed."""
    package = importlib.util.find_spec("crest")
    if package is None or package.origin is None:
        raise SystemExit("guard: crest is not installed")
    files = [each for kind in ("*.py", "*.so") for each in Path(package.origin).parent.rglob(kind)]
    return {str(each): each.stat().st_mtime_ns for each in [*files, BENCHES / "paths.py"]}


def measure() -> dict[str, float]:
    """Instructions of each path for one message, delivery or connection.

    Raises:
        RuntimeError: A path failed, or crest was changed meanwhile, so that runs can not be subtracted.
    """
    before = sources()
    # Compiled bytecode must be there before the first run that counts.
    subprocess.run([sys.executable, "-c", "import crest"], check=True)
    subprocess.run([sys.executable, str(BENCHES / "paths.py"), "handshake", "1"], check=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        single = {path: pool.submit(instructions, path, count) for path, count in COUNTS.items()}
        double = {path: pool.submit(instructions, path, 2 * count) for path, count in COUNTS.items()}
        counts = {path: (double[path].result() - single[path].result()) / count for path, count in COUNTS.items()}
    if sources() != before:
        raise RuntimeError("crest was changed while it was measured")
    return {path: round(count, 1) for path, count in counts.items()}


def differences(old: dict[str, Any], new: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    return [f"{key} {old.get(key)} -> {new[key]}" for key in keys if old.get(key) != new[key]]


def compare(old: dict[str, float], new: dict[str, float]) -> list[str]:
    """Print the table; return the paths that cost more than tolerated."""
    grown = []
    print(f"{'path':<16}{'baseline':>14}{'now':>14}{'change':>10}")
    for path, now in new.items():
        before = old.get(path)
        if before is None:
            print(f"{path:<16}{'none':>14}{now:>14,.1f}")
            continue
        change = now / before - 1
        verdict = ""
        if change > TOLERANCE:
            grown.append(path)
            verdict = "  too much"
        elif change < -TOLERANCE:
            verdict = "  less: --update holds it"
        print(f"{path:<16}{before:>14,.1f}{now:>14,.1f}{change:>+10.2%}{verdict}")
    return grown


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the instructions of the core paths with guard.json.")
    parser.add_argument("--update", action="store_true", help="make the counts of now the baseline")
    parser.add_argument("--strict", action="store_true", help="fail where the baseline is of an unlike toolchain")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("guard: valgrind is not installed", file=sys.stderr)
        return 2
    tools = toolchain()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"toolchain": {}, "instructions": {}}
    unlike = differences(baseline["toolchain"], tools, DECISIVE)
    if unlike and not arguments.update:
        print(f"guard: NOT COMPARED, the baseline is of another toolchain: {'; '.join(unlike)}")
        return 1 if arguments.strict else 0
    try:
        counts = measure()
    except RuntimeError as error:
        print(f"guard: {error}", file=sys.stderr)
        return 1
    grown = compare(baseline["instructions"], counts)
    if arguments.update:
        BASELINE.write_text(json.dumps({"toolchain": tools, "instructions": counts}, indent=1) + "\n")
        print(f"guard: wrote {BASELINE}")
        return 0
    others = tuple(key for key in tools if key not in DECISIVE)
    for difference in differences(baseline["toolchain"], tools, others):
        print(f"guard: note: since the baseline, {difference}")
    if grown:
        print(f"guard: FAILED, more than {TOLERANCE:.0%} more instructions: {', '.join(grown)}")
        return 1
    print("guard: no path has grown")
    return 0


if __name__ == "__main__":
    sys.exit(main())
