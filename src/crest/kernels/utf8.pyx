"""UTF-8 validation: the Python face of utf8.h.

A message that is there as a whole is validated as a whole, before it is decoded (decoder.pyx). Of fragments and partial
reads, each chunk is validated as it comes. So a connection fails as soon as the bytes so far can not become UTF-8 any
more (RFC 6455 section 8.1). It need not wait for the end of a message of any length, and no byte is looked at twice to
find that out.

It owns the checks of arguments from Python, and makes every variant of the kernel callable by name, for tests and
benches. It does not know what a message is; the frame parser cimports the kernel and does not pass through here.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t

crest_utf8_init()

cdef crest_utf8_variant[CREST_UTF8_VARIANTS] found
cdef Py_ssize_t count = crest_utf8_variants(found)
cdef tuple names = tuple([found[i].name.decode() for i in range(count)])


cdef crest_utf8_function named(str variant) except NULL:
    cdef Py_ssize_t i
    for i in range(count):
        if names[i] == variant:
            return found[i].call
    raise ValueError(f"no variant {variant!r} on this CPU, only {', '.join(names)}")


cdef bint run(crest_utf8_function call, object data) except -1:
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return call(<const uint8_t*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def is_valid(data):
    """True if bytes are valid UTF-8 (RFC 3629) as a whole.

    Raises:
        TypeError: `data` is no bytes-like object.
    """
    return run(crest_utf8_validate, data)


def is_valid_with(str variant not None, data):
    """True if bytes are valid UTF-8, by one variant of the kernel.

    Args:
        variant: one of `variants()`.
        data: the bytes.

    Raises:
        TypeError: `data` is no bytes-like object.
        ValueError: this CPU has no such variant.
    """
    return run(named(variant), data)


def is_ascii(data):
    """True if no byte is above 127.

    Raises:
        TypeError: `data` is no bytes-like object.
    """
    return run(crest_utf8_is_ascii, data)


def valid_prefix(data):
    """Count the bytes before the first sequence that is invalid or unfinished: all of them, if there is none.

    Raises:
        TypeError: `data` is no bytes-like object.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return crest_utf8_valid_prefix(<const uint8_t*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


@cython.final
cdef class Validator:
    """Validates text that comes in chunks, which may be cut anywhere.

    Args:
        variant: one of `variants()`; the fastest, if not given.

    Raises:
        ValueError: this CPU has no such variant.
    """

    cdef crest_utf8 state
    cdef crest_utf8_function validate
    cdef Py_ssize_t size
    cdef Py_ssize_t fault_at

    def __cinit__(self, str variant=None):
        self.validate = found[count - 1].call if variant is None else named(variant)
        self.fault_at = -1
        crest_utf8_start(&self.state)

    def feed(self, data):
        """Take the next chunk.

        Returns:
            False as soon as nothing that follows could make the bytes so far valid, and from then on.

        Raises:
            TypeError: `data` is no bytes-like object.
        """
        cdef Py_buffer view
        cdef const uint8_t* chunk
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            chunk = <const uint8_t*>view.buf
            if self.fault_at >= 0:
                return False
            if not crest_utf8_feed_with(self.validate, &self.state, chunk, view.len):
                self.fault_at = self.size + crest_utf8_fault_offset(&self.state, chunk, view.len)
                return False
            self.size += view.len
            return True
        finally:
            PyBuffer_Release(&view)

    def finish(self):
        """True if the text so far is valid and does not end within a character."""
        return crest_utf8_finish(&self.state)

    @property
    def fault(self):
        """The start of the invalid sequence, in bytes from the start of the text; None unless `feed` returned False."""
        return None if self.fault_at < 0 else self.fault_at


def variants():
    """List the variants of the kernel that this CPU can run, the fastest last."""
    return names


def selected():
    """Name the variant that `is_valid` uses."""
    return names[count - 1]
