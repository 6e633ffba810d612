"""What users pass to `send`, `broadcast` and `close`: the bytes of it, or an error that says what to pass instead."""

from crest.wire.rfc6455 cimport MAX_CLOSE_REASON, is_wire_close_code


cdef int refuse_text(str method, text) except -1:
    raise TypeError(f"{method}() takes str, not {type(text).__name__}; {method}_binary() takes bytes")


cdef bytes as_bytes(str method, data):
    """A bytes-like object as bytes: itself if it is bytes, else a copy."""
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
