# RFC 6455's numbers as compile-time constants: the twins of codes.py, which tests/wire/test_codes.py compares.

cdef enum Opcode:
    OPCODE_CONTINUATION = 0x0
    OPCODE_TEXT = 0x1
    OPCODE_BINARY = 0x2
    OPCODE_CLOSE = 0x8
    OPCODE_PING = 0x9
    OPCODE_PONG = 0xA

cdef enum CloseCode:
    CLOSE_NORMAL_CLOSURE = 1000
    CLOSE_GOING_AWAY = 1001
    CLOSE_PROTOCOL_ERROR = 1002
    CLOSE_UNSUPPORTED_DATA = 1003
    CLOSE_NO_STATUS_RECEIVED = 1005
    CLOSE_ABNORMAL_CLOSURE = 1006
    CLOSE_INVALID_PAYLOAD_DATA = 1007
    CLOSE_POLICY_VIOLATION = 1008
    CLOSE_MESSAGE_TOO_BIG = 1009
    CLOSE_MANDATORY_EXTENSION = 1010
    CLOSE_INTERNAL_ERROR = 1011
    CLOSE_SERVICE_RESTART = 1012
    CLOSE_TRY_AGAIN_LATER = 1013
    CLOSE_BAD_GATEWAY = 1014
    CLOSE_TLS_HANDSHAKE = 1015

cdef enum:
    RSV1 = 0x40  # beside the opcode: the message is compressed (RFC 7692 section 6)
    MASK_BIT = 0x80  # beside the length: the payload is masked
    MAX_CONTROL_PAYLOAD = 125
    MAX_CLOSE_REASON = 123

cdef inline bint is_wire_close_code(unsigned int code) noexcept nogil:
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
