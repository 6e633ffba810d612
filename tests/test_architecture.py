"""The house holds: floors, leaves, names and sizes, over the sources of the package; sizes over tests and benches too.

Kernels know bytes, wire knows frames, io knows the transport, the top knows users. Each folder, and each module of the
top, has a rank of its own; imports, cimports and included headers go to lower ranks or stay in their folder.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import takewhile
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src" / "crest"
pytestmark = pytest.mark.skipif(not SOURCES.is_dir(), reason="needs the source tree; this tests an installed package")

ORDER = (
    *("cpython", "_version", "exceptions", "options"),
    *("kernels", "wire"),
    *("io", "io/loop", "io/out", "io/life", "io/net"),
    *(
        "log",
        "lifetime",
        "http",
        "limits",
        "gap",
        "presence",
        "totals",
        "connection",
        "handlers",
        "admission",
        "attachment",
        "server",
        "serving",
        "opening",
        "listening",
        "running",
        "cluster",
        "app",
    ),
    *("asgi", "client", "cli", "metrics", "testing"),  # wings: nothing above may know them
    "__init__",
)
"""Folders and modules of src/crest, each of which may import those before it. The rooms of io have ranks of their own;
"io" is what lies in none of them."""

LEAVES = ("cpython", "_version", "exceptions", "options")
TO_COME = {"client", "cli", "metrics", "testing"}

INPUT_OUTPUT = {"asyncio", "logging", "os", "selectors", "select", "socket", "ssl", "threading", "time", "uvloop"}
"""What kernels and wire must not know: no loop, socket, clock or logger."""

TESTED_WITH = {
    "__init__.py": "test_packaging.py",
    "_version.py": "test_packaging.py",
    "cpython.pxd": "kernels/test_decoder.py",
    "io/syscalls.pxd": "io/net/test_flaky_kernel.py",
    "io/loop/forks.py": "system/test_forks.py",
    "io/loop/lists.pxd": "io/out/test_fanout.py",
    "io/out/offer.pxd": "io/out/test_fanout.py",
    "asgi/engine.py": "asgi/test_mounted.py",
    "asgi/scope.py": "asgi/test_uvicorn.py",
    "cluster/child.py": "cluster/test_supervisor.py",
    "cluster/interests.pyx": "cluster/test_bus.py",
    "cluster/sharing.py": "cluster/test_worker.py",
    "presence.py": "cluster/test_directory.py",
    "cluster/place.py": "cluster/test_supervisor.py",
    "running.py": "top/test_lifetime.py",
    "io/life/host.pyx": "io/life/test_inbox.py",
    "http/pages.py": "top/test_app_pages.py",
    "opening/parting.py": "listening/test_shutdown.py",
    "io/out/framelog.pyx": "io/out/test_fanout.py",
    "io/out/supply.pyx": "io/out/test_fanout_members.py",
    "wire/assembler.pyx": "wire/test_frames_memory.py",
    "wire/rfc6455.pxd": "wire/test_codes.py",
}
"""Modules without a test module of their own name, and whose it is."""

MAX_FILE, MAX_FUNCTION = 450, 75  # lines


def files(*suffixes: str) -> list[Path]:
    return sorted(path for path in SOURCES.rglob("*") if path.suffix in suffixes)


def shown(path: Path) -> str:
    return path.relative_to(SOURCES).as_posix()


def module_of(path: Path) -> str:
    """crest/wire/frames.pyx -> crest.wire.frames"""
    parts = ["crest", *path.relative_to(SOURCES).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def name_of(module: str) -> str:
    """crest.wire.frames -> wire; crest.io.loop.turn -> io/loop"""
    parts = [*module.split("."), "__init__"]
    return "/".join(parts[1:3]) if "/".join(parts[1:3]) in ORDER else parts[1]


def may_import(importer: str, imported: str) -> bool:
    """True for modules, or headers by the name of their folder, of lower rank or of the same folder."""
    above, below = name_of(importer), name_of(imported)
    return above == below or ORDER.index(below) < ORDER.index(above)


# ---- What a file imports -------------------------------------------------------------------------------------------

CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<source>[\w.]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^\n#]*)"
    r"|c?import[ \t]+(?P<modules>[^\n#]+))",
    re.MULTILINE,
)
CYTHON_HEADER = re.compile(r"^[ \t]*cdef[ \t]+extern[ \t]+from[ \t]+[\"<](?P<header>[^\">]+)", re.MULTILINE)
C_HEADER = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[\"<](?P<header>[^\">]+)", re.MULTILINE)
STRING_OR_COMMENT = re.compile(r'"""[\s\S]*?"""|#[^\n]*')


def python_imports(path: Path) -> Iterator[str]:
    """The modules that a .py file imports, anywhere in it, those included that only type checkers see."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)}:{node.lineno}: a relative import"
            for alias in node.names:
                yield target_of(node.module or "", alias.name)


def cython_imports(path: Path) -> Iterator[str]:
    """The modules that a .pyx or .pxd file imports or cimports."""
    text = STRING_OR_COMMENT.sub("", path.read_text("utf-8"))
    for match in CYTHON_IMPORT.finditer(text):
        names = (match["names"] or match["modules"]).strip("() \n").split(",")
        for name in filter(None, (each.split(" as ")[0].strip() for each in names)):
            assert not (match["source"] or "").startswith("."), f"{shown(path)}: a relative import"
            yield target_of(match["source"], name) if match["source"] else name


def target_of(source: str, name: str) -> str:
    """The module that `from source import name` reaches."""
    below = SOURCES.parent.joinpath(*source.split("."), name)
    is_module = any(below.with_suffix(suffix).exists() for suffix in (".py", ".pyx", ".pxd")) or below.is_dir()
    return f"{source}.{name}" if is_module else source


def imports() -> Iterator[tuple[Path, str]]:
    """Every import in the package: the file, and the module."""
    for path in files(".py"):
        for module in python_imports(path):
            yield path, module
    for path in files(".pyx", ".pxd"):
        for module in cython_imports(path):
            yield path, module


def test_no_except_clause_is_left_early() -> None:
    """What Cython makes of `return`, `break` and `continue` there lets go of a traceback. Without memory none may have
    been made, and the process crashes."""
    found = []
    for path in files(".pyx"):
        lines = path.read_text("utf-8").split("\n")
        for number, line in enumerate(lines):
            if match := re.match(r"( *)except\b.*:", line):
                inside = re.compile(rf"$| {{{len(match[1]) + 1},}}")
                body = takewhile(inside.match, lines[number + 1 :])
                if any(re.match(r" *(return|break|continue)\b", each) for each in body):
                    found.append(f"{shown(path)}:{number + 1}")
    assert not found


def test_imports_are_found() -> None:
    """The tests below look at all there is."""
    found = {(shown(path), module) for path, module in imports()}
    assert ("io/out/outbox.pyx", "crest.io.loop.turn") in found
    assert ("io/out/outbox.pyx", "crest.wire.rfc6455") in found  # over several lines, in parentheses
    assert ("wire/assembler.pxd", "crest.kernels.utf8") in found
    assert ("__init__.py", "crest.app") in found
    importing_nothing = {"kernels/mask.pyx", "io/out/interest.pyx"}
    assert {shown(path) for path in files(".pyx")} <= {path for path, _ in found} | importing_nothing


# ---- Floors --------------------------------------------------------------------------------------------------------


def test_every_folder_and_module_has_its_rank() -> None:
    there = {name_of(module_of(path)) for path in files(".py", ".pyx", ".pxd", ".h")}
    assert there <= set(ORDER), there - set(ORDER)
    assert set(ORDER) - there <= TO_COME


def test_rooms_of_io_have_ranks() -> None:
    assert {path.name for path in (SOURCES / "io").iterdir() if path.is_dir() and path.name[0] != "_"} == {
        name.split("/")[1] for name in ORDER if name.startswith("io/")
    }
    assert may_import("crest.io.life.protocol", "crest.io.out.outbox")
    assert not may_import("crest.io.out.outbox", "crest.io.life.protocol")
    assert not may_import("crest.listening.listener", "crest.cluster.hub")


def test_imports_go_downward() -> None:
    wrong = [
        f"{shown(path)} imports {module}"
        for path, module in imports()
        if module.split(".")[0] == "crest" and not may_import(module_of(path), module)
    ]
    assert not wrong, "\n".join(wrong)


def test_headers_go_downward() -> None:
    """A header of crest's own is included from its folder or above it."""
    folders = {path.name: module_of(path) for path in files(".h")}
    wrong = []
    for path in files(".h", ".pyx", ".pxd"):
        pattern = C_HEADER if path.suffix == ".h" else CYTHON_HEADER
        for header in (match["header"] for match in pattern.finditer(path.read_text("utf-8"))):
            if header in folders and not may_import(module_of(path), folders[header]):
                wrong.append(f"{shown(path)} includes {header} of {folders[header]}")
    assert not wrong, "\n".join(wrong)


def test_leaves_import_nothing_of_crest() -> None:
    wrong = [f"{shown(path)} imports {module}" for path, module in imports() if name_of(module_of(path)) in LEAVES]
    wrong = [line for line in wrong if " crest" in line]
    assert not wrong, "\n".join(wrong)


def test_modules_do_not_import_each_other() -> None:
    """No cycles, and none that only type checkers see."""
    graph: dict[str, set[str]] = defaultdict(set)
    for path, module in imports():
        if module.split(".")[0] == "crest" and module != module_of(path):
            graph[module_of(path)].add(module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_kernels_and_wire_do_no_input_or_output() -> None:
    wrong = [
        f"{shown(path)} imports {module}"
        for path, module in imports()
        if name_of(module_of(path)) in ("kernels", "wire")
        and (module.split(".")[0] in INPUT_OUTPUT or module.startswith(("posix", "libc.time")))
    ]
    assert not wrong, "\n".join(wrong)


def test_headers_know_no_python() -> None:
    wrong = [shown(path) for path in files(".h") if re.search(r"\bPy[A-Z_]\w*|Python\.h", strip_c(path))]
    assert not wrong, f"these know Python: {wrong}"


def strip_c(path: Path) -> str:
    """A C file without its comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text("utf-8"), flags=re.DOTALL)


def test_nothing_is_included_by_cython() -> None:
    wrong = [shown(path) for path in files(".pyx", ".pxd") if re.search(r"(?m)^include\b", path.read_text("utf-8"))]
    assert not wrong, f"cimport a module instead of including a file: {wrong}"


# ---- Names and sizes -----------------------------------------------------------------------------------------------


def test_a_file_name_appears_once() -> None:
    rooms = defaultdict(set)
    for path in files(".py", ".pyx", ".pxd", ".pyi", ".h"):
        if path.name != "__init__.py":
            rooms[path.stem].add(shown(path.with_suffix("")))
    wrong = [sorted(where) for where in rooms.values() if len(where) > 1]
    assert not wrong, f"one name, several rooms: {wrong}"


def test_files_are_short() -> None:
    sizes = [(shown(path), len(path.read_text("utf-8").splitlines())) for path in files(".py", ".pyx", ".pxd", ".h")]
    wrong = [f"{name}: {size} lines" for name, size in sizes if size > MAX_FILE]
    assert not wrong, f"a room over {MAX_FILE} lines usually holds two ideas: {wrong}"


def test_files_of_tests_and_benches_are_short() -> None:
    root = TESTS.parent
    paths = [path for folder in ("tests", "benches", "examples") for path in (root / folder).rglob("*.py")]
    sizes = [(path.relative_to(root).as_posix(), len(path.read_text("utf-8").splitlines())) for path in paths]
    wrong = [f"{name}: {size} lines" for name, size in sizes if size > MAX_FILE]
    assert not wrong, f"a module of tests over {MAX_FILE} lines usually has two subjects: {wrong}"


CYTHON_FUNCTION = re.compile(r"(?m)^(?P<indent>[ ]*)(?P<head>(?:async def|c?p?def(?! class))\b[^\n]*\([^\n]*)\n")
C_FUNCTION = re.compile(r"(?m)^(?P<indent>)(?P<head>\w[^;{}#]*\))\s\{\n")


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a file, and their lines."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, (node.end_lineno or 0) - node.lineno + 1
        return
    pattern = C_FUNCTION if path.suffix == ".h" else CYTHON_FUNCTION
    for match in pattern.finditer(text):
        body = text[match.end() :]
        end = re.search(rf"^[ ]{{0,{len(match['indent'])}}}[^\s)]", body, re.MULTILINE)
        lines = body[: end.start() if end else None].rstrip()
        yield match["head"], match[0].count("\n") + lines.count("\n") + 1


def test_functions_are_short() -> None:
    found = [(shown(path), *each) for path in files(".py", ".pyx", ".pxd", ".h") for each in functions(path)]
    assert any(name == "wire/frames.pyx" and " next(" in head and size > 20 for name, head, size in found)
    assert any(name == "kernels/mask.h" and " crest_unmask_scalar(" in head and size > 5 for name, head, size in found)
    wrong = [f"{name}: {head}: {size} lines" for name, head, size in found if size > MAX_FUNCTION]
    assert not wrong, f"functions over {MAX_FUNCTION} lines:\n" + "\n".join(wrong)


# ---- Tests mirror the sources --------------------------------------------------------------------------------------


def test_every_module_has_its_tests() -> None:
    missing = []
    for path in files(".py", ".pyx", ".pxd"):
        if path.name == "__init__.py" and path.parent != SOURCES:
            continue
        if path.suffix == ".pxd" and path.with_suffix(".pyx").exists():
            continue
        folder = "top" if path.parent == SOURCES else path.parent.relative_to(SOURCES).as_posix()
        own = f"{folder}/test_{path.stem}.py"
        test = TESTED_WITH.get(shown(path), own)
        if not (TESTS / test).exists():
            missing.append(f"{shown(path)}: tests/{test}")
    assert not missing, "modules without their test module:\n" + "\n".join(missing)
