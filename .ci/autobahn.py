"""Autobahn|Testsuite's fuzzing client against an echo server of crest: every case must be OK or INFORMATIONAL.

Usage: autobahn.py RUN_SH   its run.sh: URL OUTDIR CASE..., which leaves OUTDIR/index.json
       autobahn.py docker   the image crossbario/autobahn-testsuite

The server compresses whatever it may: in sections 12 and 13, permessage-deflate's, the client offers to. This ends with
status 1 for a case that is FAILED, NON-STRICT, UNCLEAN or anything else, for one that did not run, and when the server
logged an error or did not end in good order.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "autobahn"
GROUPS = [["1", "2", "3", "4", "5", "6", "7", "9", "10", "13"], ["12"]]
"""Sections, in groups that run at the same time: section 12 takes as long as all others together."""
FIRST = "1.1.1"
CASES = 517
"""How many the suite has in these sections."""

PASSED = {"OK", "INFORMATIONAL"}
IMAGE = "crossbario/autobahn-testsuite:25.10.1"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def start_server(url: str, log: IO[str]) -> subprocess.Popen[bytes]:
    """The echo server, once it listens."""
    address = urlsplit(url)
    script = ROOT / "benches" / "servers" / "crest_server.py"
    server = subprocess.Popen([sys.executable, str(script), str(address.port), "echo-deflate"], stderr=log)
    while server.poll() is None:
        try:
            socket.create_connection((address.hostname, address.port), timeout=1).close()
            return server
        except OSError:
            time.sleep(0.05)
    sys.exit(f"the server ended with status {server.returncode}; see {log.name}")


def run_script(script: str, url: str, sections: list[str], output: Path) -> None:
    # Its exit status is not asked: the verdict below is stricter.
    subprocess.run([script, url, str(output), *sections], stdin=subprocess.DEVNULL)


def run_docker(url: str, sections: list[str], output: Path) -> None:
    cases = [f"{section}.*" for section in sections]
    specification = {"outdir": "/reports", "servers": [{"agent": "crest", "url": url}], "cases": cases}
    (output / "fuzzingclient.json").write_text(json.dumps(specification))
    docker = ["docker", "run", "--rm", "--network=host", f"--volume={output}:/reports", IMAGE]
    subprocess.run([*docker, "wstest", "-m", "fuzzingclient", "-s", "/reports/fuzzingclient.json"], check=True)


def run(how: str, url: str) -> list[Path]:
    """Run all groups; returns where their reports are to be found."""
    run_group = run_docker if how == "docker" else partial(run_script, how)
    (OUTPUT / "first").mkdir()
    run_group(url, [FIRST], OUTPUT / "first")  # on a new machine it installs the suite, which two at once can not
    outputs = [OUTPUT / f"group-{number}" for number in range(len(GROUPS))]
    with ThreadPoolExecutor() as pool:
        runs = []
        for sections, output in zip(GROUPS, outputs, strict=True):
            output.mkdir(parents=True)
            runs.append(pool.submit(run_group, url, sections, output))
        for each in runs:
            each.result()
    return outputs


def verdict(outputs: list[Path]) -> bool:
    """Print what came out; whether all cases passed."""
    cases: dict[str, dict[str, str]] = {}
    for output in outputs:
        report = output / "index.json"
        agents: dict[str, dict[str, dict[str, str]]] = json.loads(report.read_text()) if report.exists() else {}
        cases |= next(iter(agents.values()), {})
    failed = {
        name: (case["behavior"], case["behaviorClose"])
        for name, case in cases.items()
        if case["behavior"] not in PASSED or case["behaviorClose"] not in PASSED
    }
    for name, (behavior, close) in failed.items():
        print(f"{name}: {behavior}, close {close}")
    behaviors = Counter(case["behavior"] for case in cases.values())
    counts = ", ".join(f"{count} {name}" for name, count in behaviors.most_common())
    print(f"Autobahn: {len(cases)} of {CASES} cases ran, {len(failed)} failed ({counts or 'nothing'})")
    return len(cases) == CASES and not failed


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if sys.argv[1] != "docker" and not Path(sys.argv[1]).is_file():
        sys.exit(f"Autobahn's run.sh is not at {sys.argv[1]}; AUTOBAHN=docker takes the docker image instead")
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    url = f"ws://127.0.0.1:{free_port()}/ws"
    with (OUTPUT / "server.log").open("w+") as log:
        server = start_server(url, log)
        try:
            outputs = run(sys.argv[1], url)
        finally:
            server.terminate()
            status = server.wait()
        log.seek(0)
        trouble = [line for line in log if " ERROR " in line or "Traceback" in line]
    print("".join(trouble), end="")
    sys.exit(0 if verdict(outputs) and status == 0 and not trouble else 1)


if __name__ == "__main__":
    main()
