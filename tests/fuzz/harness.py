"""Runs one of the targets that need Python.

    python tests/fuzz/harness.py TARGET FILE...       checks inputs once, with whatever crest is installed
    python tests/fuzz/harness.py TARGET -OPTION...    libFuzzer's options and folders: atheris searches

Coverage guides atheris: of crest's compiled modules, if they were built for it, and of its Python ones. runner.py
arranges that.
"""

import gc
import shlex
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

TARGETS = sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))


def load(name: str) -> Callable[[bytes], object]:
    """The function that checks an input of this target."""
    check: Callable[[bytes], object] = import_module(f"fuzz.targets.{name}").check
    return check


def search(name: str, arguments: list[str]) -> None:
    import atheris

    # Coverage of the oracle does not guide: counting its branches takes longer than everything else.
    with atheris.instrument_imports(include=["crest"]):
        check = load(name)
    gc.freeze()  # what is there by now stays: the collector looks at it no more

    def test_one_input(data: bytes) -> None:
        check(data)

    # To merge corpora libFuzzer runs itself again, in a shell.
    itself = shlex.join([sys.executable, str(HERE / "harness.py"), name])
    atheris.Setup([itself, *arguments], test_one_input)
    atheris.Fuzz()


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"{(__doc__ or '').strip()}\n\nTargets: {', '.join(TARGETS)}")
    name, arguments = sys.argv[1], sys.argv[2:]
    if any(each.startswith("-") for each in arguments):
        search(name, arguments)
    else:
        check = load(name)
        for path in arguments:
            print(check(Path(path).read_bytes()))


if __name__ == "__main__":
    main()
