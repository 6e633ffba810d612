"""Builds the fuzz targets and runs them, one after the other; see README.md.

    python tests/fuzz/runner.py [--seconds N | --runs N] [--seed N] [--fast] [TARGET...]
    python tests/fuzz/runner.py --again FILE TARGET
    python tests/fuzz/runner.py --merge TARGET...

What is found goes to build/fuzz: inputs of new coverage to corpus/TARGET, those that fail to failures, output to logs.
Exit status 1: a target failed, or has run next to nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "fuzz"

KERNELS = sorted(path.stem for path in (HERE / "kernels").glob("*.c"))
PYTHON = sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))

MAX_LEN = {
    "connection": 1024,
    "decoder": 300,
    "handshake": 512,
    "head": 512,
    "mask": 300,
    "records": 1500,
    "utf8": 300,
}
"""Bytes of an input; of other targets, USUAL_LEN."""
USUAL_LEN = 400

GROUPS = {"kernels": KERNELS, "python": PYTHON}
"""Names that stand for several targets."""

HTTP = {"connection", "forwarded", "handshake", "head", "proxy", "request"}
"""Targets that http.dict helps."""

LEAST_RUNS = 10
"""Executions without which a target counts as not run. On a busy machine a few seconds may do for the corpus only."""

FLAGS = [
    *"-std=c11 -Wall -Wextra -Werror -O2 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all".split(),
    "-fno-sanitize-coverage=trace-cmp",  # halves the speed, and there is no magic number to find
]
LIMITS = ["-timeout=30", "-rss_limit_mb=4096", "-print_final_stats=1"]

# Most of the time goes to the allocator: short stacks and a small quarantine make a third more executions.
ASAN_OPTIONS = "detect_leaks=0:allocator_may_return_null=1:malloc_context_size=%d:quarantine_size_mb=8"


class Result(NamedTuple):
    """What came of a target.

    Attributes:
        wrong: What is wrong; None if nothing is.
    """

    runs: int
    speed: int
    coverage: int
    wrong: str | None


class Modules(NamedTuple):
    """The extension modules, built for fuzzing.

    Attributes:
        folder: To import them from.
    """

    folder: Path
    sanitizer: str


def judge(status: int, output: str, corpus: int) -> Result:
    """Read libFuzzer's output.

    Args:
        corpus: How many inputs it began with.
    """
    runs, speed = (
        int(found[1]) if (found := re.search(rf"stat::{name}: +(\d+)", output)) else 0
        for name in ("number_of_executed_units", "average_exec_per_sec")
    )
    coverage = max((int(each) for each in re.findall(r"cov: (\d+)", output)), default=0)
    wrong = None
    if status:
        wrong = f"ended with status {status}"
    elif runs < max(corpus, LEAST_RUNS):
        wrong = f"ran {runs} inputs, and the corpus has {corpus}"
    elif not coverage:
        wrong = "saw no coverage"
    return Result(runs, speed, coverage, wrong)


# ---- Building --------------------------------------------------------------------------------------------------------


def missing(targets: list[str]) -> list[str]:
    """What is not installed, and how to."""
    found = []
    if not shutil.which("clang"):
        found.append("clang (on Debian: clang and libclang-rt-14-dev)")
    elif not runtime():
        found.append("libFuzzer and the sanitizers of clang (on Debian: libclang-rt-14-dev)")
    if set(targets) & set(PYTHON):
        found += [f"{name} (make fuzz installs it)" for name in ("atheris", "websockets") if find_spec(name) is None]
    return found


def runtime() -> bool:
    """True if clang can link for libFuzzer."""
    command = ["clang", "-fsanitize=fuzzer,address,undefined", "-x", "c", "-", "-o", os.devnull]
    source = "int LLVMFuzzerTestOneInput(const void *data, unsigned long size) { (void)data; return size > 1 << 30; }"
    return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0


def build_kernel(name: str) -> None:
    source, include = HERE / "kernels" / f"{name}.c", f"-I{ROOT / 'src' / 'crest' / 'kernels'}"
    subprocess.run(["clang", *FLAGS, include, str(source), "-o", str(BUILD / name)], check=True)


def build_modules(sanitizer: str) -> Modules:
    """Build the extension modules with coverage.

    Args:
        sanitizer: "address", which is AddressSanitizer and UndefinedBehaviorSanitizer; "undefined", the latter only.
    """
    log = BUILD / "build.log"
    environment = {**os.environ, "CREST_FUZZ": sanitizer}
    with log.open("w") as output:
        command = [sys.executable, "setup.py", "--quiet", "build", "--parallel", str(os.cpu_count())]
        built = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    if built.returncode:
        sys.exit(f"{log.read_text()}\nthe extension modules can not be built; see {log}")
    [folder] = (BUILD / sanitizer).glob("lib.*")
    return Modules(folder, sanitizer)


# ---- Running ---------------------------------------------------------------------------------------------------------


def command_of(name: str) -> list[str]:
    return [str(BUILD / name)] if name in KERNELS else [sys.executable, str(HERE / "harness.py"), name]


def environment(name: str, modules: Modules | None, context: int = 1) -> dict[str, str]:
    """Return the environment of a target's process.

    Args:
        context: How much of a stack the sanitizer keeps of each allocation.
    """
    # PYTHONHASHSEED: the order of a set is coverage too, and would make a seeded run differ from the next.
    options = {"ASAN_OPTIONS": ASAN_OPTIONS % context, "UBSAN_OPTIONS": "print_stacktrace=1", "PYTHONHASHSEED": "0"}
    if modules is None or name in KERNELS:
        return {**os.environ, **options}
    import atheris

    runtime = "asan_with_fuzzer.so" if modules.sanitizer == "address" else "ubsan_with_fuzzer.so"
    options |= {"LD_PRELOAD": str(Path(atheris.path()) / runtime), "PYTHONPATH": str(modules.folder)}
    if modules.sanitizer == "address":
        # The sanitizer sees each object by itself, where pymalloc would hide them in its arenas.
        options["PYTHONMALLOC"] = "malloc"
    return {**os.environ, **options}


def run(name: str, modules: Modules | None, limits: list[str]) -> Result:
    """Let libFuzzer search, from the corpus of the repository and what earlier runs have found.

    Args:
        limits: libFuzzer's options that say how long, and from which seed.
    """
    found, given = BUILD / "corpus" / name, HERE / "corpus" / name
    failures, logs = BUILD / "failures", BUILD / "logs"
    for folder in (found, failures, logs):
        folder.mkdir(parents=True, exist_ok=True)
    options = [*limits, f"-max_len={MAX_LEN.get(name, USUAL_LEN)}", f"-artifact_prefix={failures}/{name}-", *LIMITS]
    if name in HTTP:
        options.append(f"-dict={HERE / 'http.dict'}")
    log = logs / f"{name}.log"
    with log.open("w") as output:
        command = [*command_of(name), *options, str(found), str(given)]
        process = subprocess.run(command, env=environment(name, modules), stdout=output, stderr=output)
    text = log.read_text(errors="replace")
    result = judge(process.returncode, text, sum(1 for folder in (found, given) for _ in folder.iterdir()))
    if result.wrong and process.returncode:
        print(excerpt(text))
    return result


def merge(name: str, modules: Modules | None) -> None:
    """Replace a corpus of the repository by the fewest inputs, of it and of what was found, that cover as much."""
    given, found, merged = HERE / "corpus" / name, BUILD / "corpus" / name, BUILD / "merged" / name
    shutil.rmtree(merged, ignore_errors=True)
    for folder in (given, found, merged):
        folder.mkdir(parents=True, exist_ok=True)
    options = ["-set_cover_merge=1", f"-max_len={MAX_LEN.get(name, USUAL_LEN)}", str(merged), str(given), str(found)]
    subprocess.run([*command_of(name), *options], env=environment(name, modules), check=True, capture_output=True)
    if not any(merged.iterdir()):
        sys.exit(f"nothing came of merging the corpora of {name}")
    shutil.rmtree(given)
    merged.rename(given)


def excerpt(output: str) -> str:
    """What libFuzzer or the sanitizer said of a failure."""
    lines = output.splitlines()
    marks = ("Uncaught Python exception", "ERROR: ", "runtime error", "wrong")
    first = next((i for i, line in enumerate(lines) if any(mark in line for mark in marks)), len(lines) - 20)
    return "\n".join(line[:500] for line in lines[max(0, first - 2) : first + 40])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join([*KERNELS, *PYTHON, *GROUPS]))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--runs", type=int, help="executions of each target, in place of a time")
    parser.add_argument("--seed", type=int, help="search the same inputs each time")
    parser.add_argument("--fast", action="store_true", help="without AddressSanitizer, where Python is needed")
    parser.add_argument("--again", metavar="FILE", help="run this input only, and show everything")
    parser.add_argument(
        "--merge", action="store_true", help="minimise the corpus in the repository with what was found"
    )
    options = parser.parse_args()
    targets = [each for name in options.targets or GROUPS for each in GROUPS.get(name, [name])]
    if unknown := set(targets) - {*KERNELS, *PYTHON}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if lacking := missing(targets):
        sys.exit(f"missing: {'; '.join(lacking)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in set(targets) & set(KERNELS):
        build_kernel(name)
    modules = build_modules("undefined" if options.fast else "address") if set(targets) & set(PYTHON) else None
    if options.again or options.merge:
        for name in targets:
            if options.merge:
                merge(name, modules)
            else:
                subprocess.run([*command_of(name), "-runs=1", options.again], env=environment(name, modules, 30))
        return 0
    limits = [f"-max_total_time={options.seconds}" if options.runs is None else f"-runs={options.runs}"]
    # Inputs that take long are changed less often, so that more are tried; by the clock, so no two runs do the same.
    limits.append("-entropic_scale_per_exec_time=1" if options.seed is None else f"-seed={options.seed}")
    failed = False
    for name in targets:
        result = run(name, modules, limits)
        failed = failed or result.wrong is not None
        told = f"{result.runs:>11,} executions, {result.speed:>7,}/s, coverage {result.coverage:>5,}"
        print(f"{name:12} {told}" + (f"  FAILED: {result.wrong}" if result.wrong else ""), flush=True)
        if result.wrong:
            print(f"see build/fuzz/logs/{name}.log; inputs that fail are in build/fuzz/failures", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
