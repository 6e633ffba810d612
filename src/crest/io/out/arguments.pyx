"""Arguments of `send`, `broadcast` and `close`: their bytes, or an error that says what to pass instead.

An instance of a subclass is copied to an exact `str` or `bytes`. crest keeps what waits to be sent. An object with
methods of its own could call crest when it is let go of, in the middle of anything.
"""

from crest.cpython cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_FromObject
from crest.wire.rfc6455 cimport MAX_CLOSE_REASON, is_wire_close_code


cdef str as_text(str method, text):
    """Return a text as an exact `str`: itself, or a copy."""
    if PyUnicode_CheckExact(text):
        return text
    if not PyUnicode_Check(text):
        raise TypeError(f"{method}() takes str, not {type(text).__name__}; {method}_binary() takes bytes")
    return PyUnicode_FromObject(text)


cdef bytes as_bytes(str method, data):
    """Return a bytes-like object as exact `bytes`: itself, or a copy."""
    if type(data) is bytes:
        return data
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(f"{method}_binary() takes a bytes-like object, not {type(data).__name__}; "
                        f"{method}() takes str") from None


def check_close(code, reason):
    """Raise TypeError or ValueError unless a close frame can carry this code and reason (RFC 6455 section 7.4)."""
    if not isinstance(code, int):
        raise TypeError(f"close code must be int, not {type(code).__name__}")
    if not isinstance(reason, str):
        raise TypeError(f"close reason must be str, not {type(reason).__name__}")
    if not 0 <= code <= 0xFFFF or not is_wire_close_code(code):
        raise ValueError(f"close code {code} may not be sent; 1000-1003, 1007-1014 and 3000-4999 may")
    size = len(reason.encode())
    if size > MAX_CLOSE_REASON:
        raise ValueError(f"close reason has {size} bytes of UTF-8, at most {MAX_CLOSE_REASON} fit into a close frame")
