"""Runs one of the targets that need Python under atheris, which searches guided by coverage.

    python tests/fuzz/harness.py TARGET [options of libFuzzer, folders and files of inputs]

Coverage is of crest's compiled modules, if they were built for it, and of its Python ones; see README.md. Without
atheris, each file that is named is checked once.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)

TARGETS = sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))


def load(name: str) -> Callable[[bytes], object]:
    """The function that checks an input of this target."""
    check: Callable[[bytes], object] = import_module(f"fuzz.targets.{name}").check
    return check


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"Usage: harness.py TARGET [options]; targets are {', '.join(TARGETS)}")
    name, arguments = sys.argv[1], sys.argv[2:]
    if find_spec("atheris") is None:
        check = load(name)
        for path in arguments:
            print(check(Path(path).read_bytes()))
        return
    import atheris

    with atheris.instrument_imports(include=["crest", "reference"]):
        check = load(name)

    def test_one_input(data: bytes) -> None:
        check(data)

    atheris.Setup([sys.argv[0], *arguments], test_one_input, internal_libfuzzer="atheris_no_libfuzzer" not in sys.modules)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
