"""The end of a process that a handler has forked.

Its event loop is no good: what wakes the loop, and what it watches, are the parent's as well. So the loop cleans
nothing up, and the child ends as those of multiprocessing do.
"""

import os
import sys
import traceback
from typing import NoReturn


def end_child(error: BaseException) -> NoReturn:
    """End this process with what came out of its handler: the code of SystemExit, or a traceback and 1."""
    code = 1
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    elif error.code is None or isinstance(error.code, int):
        code = error.code or 0
    else:
        print(error.code, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):  # there is none, or it is closed
            pass
    os._exit(code & 0xFF)
