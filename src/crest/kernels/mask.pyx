"""Unmasking payloads (RFC 6455 section 5.3): the Python face of mask.h.

It owns the checks of arguments from Python, and makes every variant of the kernel callable by name, for tests and
benches. It does not know what a frame is; the frame parser cimports the kernel and does not pass through here.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

crest_mask_init()

cdef crest_unmask_variant[CREST_UNMASK_VARIANTS] found
cdef Py_ssize_t count = crest_unmask_variants(found)
cdef tuple names = tuple([found[i].name.decode() for i in range(count)])


cdef bytes run(crest_unmask_function call, object data, bytes key, Py_ssize_t offset, uint8_t* seen):
    """Unmask into a new object, by the variant `call`, or by the dispatching kernel if that is NULL."""
    cdef Py_buffer source
    cdef bytes payload
    cdef uint8_t* target
    if len(key) != 4:
        raise ValueError(f"a masking key has 4 bytes, not {len(key)}")
    if offset < 0:
        raise ValueError(f"an offset can not be negative: {offset}")
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        payload = PyBytes_FromStringAndSize(NULL, source.len)
        target = <uint8_t*>PyBytes_AS_STRING(payload)
        if call == NULL:
            seen[0] = crest_unmask(target, <const uint8_t*>source.buf, source.len, <const uint8_t*>key, offset)
        else:
            seen[0] = call(target, <const uint8_t*>source.buf, source.len, <const uint8_t*>key, offset)
    finally:
        PyBuffer_Release(&source)
    return payload


def unmask(data, bytes key not None, Py_ssize_t offset=0):
    """XOR a payload, or a part of one, with the masking key.

    Args:
        data: the masked bytes.
        key: the masking key, four bytes as they are on the wire.
        offset: how many bytes of the same payload came before `data`.

    Returns:
        As many bytes as `data` has.

    Raises:
        TypeError: `data` is no bytes-like object, or `key` is not `bytes`.
        ValueError: `key` has not four bytes, or `offset` is negative.
    """
    cdef uint8_t seen
    return run(NULL, data, key, offset, &seen)


def unmask_with(str variant not None, data, bytes key not None, Py_ssize_t offset=0):
    """Unmask by one variant of the kernel.

    Args:
        variant: one of `variants()`.
        data: the masked bytes.
        key: the masking key, four bytes as they are on the wire.
        offset: how many bytes of the same payload came before `data`.

    Returns:
        What `unmask` returns, and the bitwise OR of its bytes: below 128 exactly if all are ASCII.

    Raises:
        TypeError: `data` is no bytes-like object, or `key` is not `bytes`.
        ValueError: `key` has not four bytes, `offset` is negative, or this CPU has no such variant.
    """
    cdef uint8_t seen = 0
    cdef Py_ssize_t i
    for i in range(count):
        if names[i] == variant:
            payload = run(found[i].call, data, key, offset, &seen)
            return payload, seen
    raise ValueError(f"no variant {variant!r} on this CPU, only {', '.join(names)}")


def variants():
    """List the variants of the kernel that this CPU can run, the fastest last."""
    return names


def selected():
    """Name the variant that `unmask` uses."""
    return names[count - 1]
