"""What a peer can do wrong in a frame header (RFC 6455 section 5.2) or a close frame, with close code and words for it.

The frame reader finds a violation without Python objects, as a negative number. The words are put together here, once
the connection is lost anyway.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t

from crest.kernels.decoder cimport decode_text
from crest.wire.rfc6455 cimport (
    CLOSE_INVALID_PAYLOAD_DATA,
    CLOSE_MESSAGE_TOO_BIG,
    CLOSE_NO_STATUS_RECEIVED,
    CLOSE_POLICY_VIOLATION,
    CLOSE_PROTOCOL_ERROR,
    is_wire_close_code,
)

cdef dict VIOLATIONS = {
    RESERVED_BITS: (CLOSE_PROTOCOL_ERROR, "a reserved bit is set, and no extension that defines it was negotiated"),
    MISPLACED_RSV1: (CLOSE_PROTOCOL_ERROR, "RSV1 is set, but not on the first frame of a message"),
    RESERVED_OPCODE: (CLOSE_PROTOCOL_ERROR, "opcode {opcode:#x} is reserved"),
    FRAGMENTED_CONTROL: (CLOSE_PROTOCOL_ERROR, "a control frame must not be fragmented"),
    NOTHING_TO_CONTINUE: (CLOSE_PROTOCOL_ERROR, "a continuation frame, but no message has begun"),
    INTERRUPTED_MESSAGE: (CLOSE_PROTOCOL_ERROR, "a new message, but the fragmented one before is not finished"),
    UNMASKED: (CLOSE_PROTOCOL_ERROR, "not masked, as every frame from a client must be"),
    MASKED: (CLOSE_PROTOCOL_ERROR, "masked, as no frame from a server may be"),
    LONG_CONTROL: (CLOSE_PROTOCOL_ERROR, "the payload of a control frame is over 125 bytes"),
    LENGTH_SIGN: (CLOSE_PROTOCOL_ERROR, "length {length} has its most significant bit set"),
    LENGTH_ENCODING: (CLOSE_PROTOCOL_ERROR, "length {length} is not in its shortest encoding"),
    MESSAGE_SIZE: (CLOSE_MESSAGE_TOO_BIG,
                   "a message of {size} bytes or more is over max_message_size, {max_message_size}"),
    COMPRESSED_SIZE: (CLOSE_MESSAGE_TOO_BIG,
                      "compressed data of {size} bytes or more is over what a message of max_message_size, "
                      "{max_message_size}, can need"),
    FRAGMENTS: (CLOSE_POLICY_VIOLATION, "a message in more frames than max_fragments, {max_fragments}"),
}


cdef tuple close_of(int violation, dict values):
    """Return the close code and the text for a `Violation`, its placeholders filled in."""
    close_code, text = VIOLATIONS[violation]
    return close_code, text.format_map(values)


cdef str read_close(bytes payload, int* code, bint* valid):
    """Read the payload of a close frame (section 5.5.1): return its reason, and its code in `code`. If it is not valid,
    return what is wrong, and the code to fail with."""
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(payload)
    cdef Py_ssize_t size = len(payload)
    cdef size_t fault = 0
    code[0] = CLOSE_NO_STATUS_RECEIVED
    valid[0] = size != 1
    if size == 0:
        return ""
    if size > 1:
        code[0] = data[0] << 8 | data[1]
        valid[0] = is_wire_close_code(code[0])
    if not valid[0]:
        error = "a close frame with a payload of one byte" if size == 1 else f"close code {code[0]} may not be sent"
        code[0] = CLOSE_PROTOCOL_ERROR
        return error
    reason = decode_text(data + 2, size - 2, &fault)
    if reason is None:
        valid[0] = False
        code[0] = CLOSE_INVALID_PAYLOAD_DATA
        return f"a close reason is not UTF-8 at byte {fault}"
    return reason


def close_for(int violation, values not None):
    """Return what `close_of` does. For tests.

    Raises:
        KeyError: there is no such violation, or `values` lacks one that its text names.
    """
    return close_of(violation, values)


def violations():
    """Return the numbers of all violations; a new list."""
    return list(VIOLATIONS)
