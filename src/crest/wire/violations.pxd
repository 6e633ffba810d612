# What is wrong with a frame header; see violations.pyx.

cdef enum Violation:
    RESERVED_BITS = -15
    MISPLACED_RSV1
    RESERVED_OPCODE
    FRAGMENTED_CONTROL
    NOTHING_TO_CONTINUE
    INTERRUPTED_MESSAGE
    UNMASKED
    MASKED
    LONG_CONTROL
    LENGTH_SIGN
    LENGTH_ENCODING
    MESSAGE_SIZE
    COMPRESSED_SIZE
    FRAGMENTS

cdef tuple close_of(int violation, dict values)
cdef str read_close(bytes payload, int* code, bint* valid)
