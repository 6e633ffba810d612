"""Builds crest's extension modules. Everything static stands in pyproject.toml; presentation.py has what indexes show.

CREST_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer in every module (`make sanitize-extensions`).
CREST_FUZZ=address the same, and coverage that guides libFuzzer; for clang only (`make fuzz`).
CREST_FUZZ=undefined
                   that without AddressSanitizer, for many executions (tests/fuzz/README.md).
CREST_LINETRACE=1  line tracing, so that coverage sees .pyx lines (`make coverage`).
CREST_BUILT=1      the modules are in the source tree, where `build_ext --inplace` puts them: nothing is compiled. An
                   editable installation would compile all of them once more.

Each kind of build has folders of its own below build/, and so never mixes with a plain one; both for fuzzing share what
Cython makes.

ZLIB_ROOT=path     where zlib is, if not among the system's libraries: include/zlib.h, and the library in lib. Windows
                   has none: `vcpkg install zlib:x64-windows-static-md --x-install-root=C:/zlib` makes one that needs no
                   DLL, in C:/zlib/x64-windows-static-md.
"""

import os
import sys
from glob import glob
from pathlib import Path
from runpy import run_path

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = [
    "kernels.mask",
    "kernels.utf8",
    "kernels.decoder",
    "wire.head",
    "wire.response",
    "wire.handshake",
    "wire.assembler",
    "wire.deflate",
    "wire.meter",
    "wire.frames",
    "wire.violations",
    "wire.masking",
    "io.loop.poller",
    "io.loop.census",
    "io.loop.ledger",
    "io.loop.clock",
    "io.loop.budget",
    "io.loop.turn",
    "io.out.arguments",
    "io.out.tally",
    "io.out.pieces",
    "io.out.deflation",
    "io.out.backlog",
    "io.out.sender",
    "io.out.outbox",
    "io.out.address",
    "io.out.relay",
    "io.out.interest",
    "io.out.circle",
    "io.out.member",
    "io.out.methods",
    "io.out.crew",
    "io.out.latest",
    "io.out.framelog",
    "io.out.supply",
    "io.out.handout",
    "io.out.fanout",
    "io.out.hub",
    "io.life.phase",
    "io.life.host",
    "io.life.calls",
    "io.life.watch",
    "io.life.intake",
    "io.life.inbox",
    "io.life.heartbeat",
    "io.life.signs",
    "io.life.pace",
    "io.life.reading",
    "io.life.closing",
    "io.life.patience",
    "io.life.writing",
    "io.life.protocol",
    "io.life.roster",
    "io.net.stream",
    "io.net.secure",
    "io.net.preface",
    "io.net.acceptor",
    "cluster.record",
    "cluster.outgoing",
    "cluster.router",
    "cluster.link",
    "cluster.switch",
    "cluster.minimal",
    "cluster.interests",
    "cluster.losses",
    "cluster.sources",
    "cluster.bus",
]
HEADERS = glob("src/crest/**/*.h", recursive=True)
INCLUDED = sorted({os.path.dirname(each) for each in HEADERS})
FUZZ = os.environ.get("CREST_FUZZ", "")
if FUZZ not in ("", "address", "undefined"):
    sys.exit(f"CREST_FUZZ is address or undefined, not {FUZZ}")
SANITIZE = bool(FUZZ or os.environ.get("CREST_SANITIZE"))
LINETRACE = bool(os.environ.get("CREST_LINETRACE"))

if sys.platform == "win32":
    compile_args, link_args = ["/O2", "/std:c11"], []
elif SANITIZE:
    optimized, checked = ("-O2", "undefined") if FUZZ == "undefined" else ("-O1", "address,undefined")
    sanitizers = [f"-fsanitize={checked}", "-fno-sanitize-recover=all"]
    if FUZZ:
        os.environ |= {"CC": "clang", "LDSHARED": "clang -shared"}
        sanitizers += ["-fsanitize=fuzzer-no-link", "-fno-sanitize-coverage=trace-cmp"]
    compile_args, link_args = [optimized, "-g", "-fno-omit-frame-pointer", *sanitizers], sanitizers
elif LINETRACE:
    compile_args, link_args = ["-O1", "-g0"], []  # it takes half the time, and what is traced is slow anyway
else:
    # -O3: at -O2 gcc does not vectorize the portable loops. -g0: many an interpreter's own flags ask for debug
    # information, which would make up most of a wheel.
    compile_args, link_args = ["-O3", "-g0"], []

ZLIB_ROOT = os.environ.get("ZLIB_ROOT")
zlib = ["z"]
if ZLIB_ROOT and sys.platform == "win32":  # the name there depends on zlib's version and on how it was built
    zlib = [path.stem for path in Path(ZLIB_ROOT, "lib").glob("z*.lib")]

version = run_path("src/crest/_version.py")["__version__"]
presentation = run_path("presentation.py")
source = presentation["SOURCE"]

kind = f"fuzz/{FUZZ}" if FUZZ else "sanitize" if SANITIZE else "linetrace" if LINETRACE else ""
build_base = f"build/{kind}".rstrip("/")

setup(
    project_urls=presentation["urls"](source, version),
    long_description=presentation["absolute"](Path("README.md").read_text("utf-8"), source, version),
    long_description_content_type="text/markdown",
    ext_modules=[]
    if os.environ.get("CREST_BUILT")
    else cythonize(
        [
            Extension(
                f"crest.{name}",
                [f"src/crest/{name.replace('.', '/')}.pyx"],
                include_dirs=[*INCLUDED, *([f"{ZLIB_ROOT}/include"] if ZLIB_ROOT else [])],
                library_dirs=[f"{ZLIB_ROOT}/lib"] if ZLIB_ROOT else [],
                libraries=zlib if name == "wire.deflate" else [],
                depends=HEADERS,
                define_macros=[("CYTHON_TRACE_NOGIL", "1")] if LINETRACE else [],
                extra_compile_args=compile_args,
                extra_link_args=link_args + (["-pthread"] if name == "io.out.crew" and sys.platform != "win32" else []),
            )
            for name in MODULES
        ],
        include_path=["src"],
        build_dir="build/fuzz/cython" if FUZZ else f"{build_base}/cython",
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "auto_pickle": False,
            "autotestdict": False,
            "embedsignature": True,
            "embedsignature.format": "clinic",
            "linetrace": LINETRACE,
        },
    ),
    options={"build": {"build_base": build_base}},
)
