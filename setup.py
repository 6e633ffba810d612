"""Builds crest's extension modules. Everything static stands in pyproject.toml.

CREST_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer in every module.
CREST_LINETRACE=1  line tracing, so that coverage sees .pyx lines.
"""

import os
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = [
    "kernels.mask",
    "kernels.utf8",
    "wire.frames",
    "io.turn",
    "io.outbox",
    "io.fanout",
    "io.hub",
    "io.inbox",
    "io.protocol",
]
LINETRACE = bool(os.environ.get("CREST_LINETRACE"))

compile_args, link_args = ["/O2"] if sys.platform == "win32" else ["-O3"], []
if os.environ.get("CREST_SANITIZE"):
    sanitize = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]
    compile_args, link_args = ["-O1", *sanitize], sanitize

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"crest.{name}",
                [f"src/crest/{name.replace('.', '/')}.pyx"],
                include_dirs=["src/crest/kernels", "src/crest/io"],
                define_macros=[("CYTHON_TRACE", "1")] if LINETRACE else [],
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
            for name in MODULES
        ],
        include_path=["src"],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "auto_pickle": False,
            "autotestdict": False,
            "embedsignature": True,
            "linetrace": LINETRACE,
        },
    )
)
