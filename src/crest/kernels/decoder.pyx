"""Decoding UTF-8 (RFC 3629) into a `str` of the narrowest kind: decoder.h with a Python object around it.

A `str` has one, two or four bytes for each of its characters, as many as its greatest code point needs. So a text is
validated and measured before there is room for it, and then decoded into its place: three passes over bytes that the
first has brought into the cache, and no memory but the `str`. Text that came in fragments has been validated when it is
complete, and is only measured and decoded.

It owns the only copy of the kernel, and makes every variant of it callable by name, for tests and benches. It does not
know what a message is.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t

from crest.cpython cimport PyUnicode_DATA, PyUnicode_KIND, PyUnicode_New
from crest.kernels.utf8 cimport crest_utf8_init, crest_utf8_valid_prefix, crest_utf8_validate

cdef extern from "decoder.h" nogil:
    ctypedef struct crest_extent:
        size_t characters

    ctypedef struct crest_decoder:
        const char* name
        crest_extent (*measure)(const uint8_t* data, size_t size) noexcept
        void (*decode)(const uint8_t* data, size_t size, void* units, size_t characters, unsigned width) noexcept

    enum:
        CREST_DECODERS

    size_t crest_decoders(crest_decoder* found) noexcept
    uint32_t crest_extent_limit(crest_extent extent) noexcept

crest_utf8_init()

cdef crest_decoder[CREST_DECODERS] found
cdef Py_ssize_t count = crest_decoders(found)
cdef crest_decoder* fastest = &found[count - 1]
cdef tuple names = tuple([found[i].name.decode() for i in range(count)])


cdef str decode_valid_by(const crest_decoder* decoder, const uint8_t* data, size_t size):
    cdef crest_extent extent = decoder.measure(data, size)
    text = <str>PyUnicode_New(extent.characters, crest_extent_limit(extent) - 1)
    decoder.decode(data, size, PyUnicode_DATA(text), extent.characters, PyUnicode_KIND(text))
    return text


cdef object decode_by(const crest_decoder* decoder, const uint8_t* data, size_t size, size_t* fault):
    if crest_utf8_validate(data, size):
        return decode_valid_by(decoder, data, size)
    fault[0] = crest_utf8_valid_prefix(data, size)
    return None


cdef object decode_text(const uint8_t* data, size_t size, size_t* fault):
    """Decode into a `str`; or return None, and in `fault` where the first invalid or unfinished sequence begins."""
    return decode_by(fastest, data, size, fault)


cdef str decode_valid_text(const uint8_t* data, size_t size):
    """Decode bytes that have been validated into a `str`: others must not come here."""
    return decode_valid_by(fastest, data, size)


cdef str run(const crest_decoder* decoder, object data):
    cdef Py_buffer view
    cdef size_t fault = 0
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        text = decode_by(decoder, <const uint8_t*>view.buf, view.len, &fault)
    finally:
        PyBuffer_Release(&view)
    if text is None:
        raise UnicodeDecodeError("utf-8", bytes(data), fault, fault + 1, "an invalid or unfinished sequence")
    return text


def decode(data):
    """Decode UTF-8 into a `str`, as `bytes.decode` does.

    Raises:
        TypeError: `data` is no bytes-like object.
        UnicodeDecodeError: it is not valid UTF-8; `start` is where its first invalid or unfinished sequence begins.
    """
    return run(fastest, data)


def decode_with(str variant not None, data):
    """Decode by one variant of the kernel; validation is by the fastest variant of its own.

    Args:
        variant: one of `variants()`.
        data: bytes-like, UTF-8.

    Raises:
        TypeError: `data` is no bytes-like object.
        UnicodeDecodeError: it is not valid UTF-8, see `decode`.
        ValueError: this CPU has no such variant.
    """
    cdef Py_ssize_t i
    for i in range(count):
        if names[i] == variant:
            return run(&found[i], data)
    raise ValueError(f"no variant {variant!r} on this CPU, only {', '.join(names)}")


def variants():
    """List the variants of the kernel that this CPU can run, the fastest last."""
    return names


def selected():
    """Name the variant that `decode` uses."""
    return names[count - 1]
