"""A message that is put together from its parts as they come: its body, and whether that can still become UTF-8.

The body is the `str` or `bytes` that the handler will get, made longer than its content and cut at the end. So no byte
of a `bytes` or an ASCII `str` is copied once it is there. `Assembler` owns the body and no policy: how much room there
is, and what is written into it, is up to the frame reader that it is a part of.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF
from libc.stdint cimport uint8_t, uint64_t

from crest.cpython cimport PyUnicode_New, PyUnicode_Resize, _PyBytes_Resize
from crest.kernels.decoder cimport decode_valid_text
from crest.kernels.utf8 cimport crest_utf8_feed, crest_utf8_init, crest_utf8_start
from crest.wire.rfc6455 cimport OPCODE_TEXT

crest_utf8_init()


cdef class Assembler:
    def __dealloc__(self):
        Py_CLEAR(self.body)

    cdef void begin_message(self, uint8_t opcode) noexcept:
        self.message_opcode = opcode
        self.ascii = True
        crest_utf8_start(&self.utf8)

    cdef int resize_body(self, uint64_t room) except -1:
        """Make room for so many bytes, 1 or more, those that are there included. Without memory the message is lost."""
        if self.body != NULL:
            if self.message_opcode == OPCODE_TEXT:
                PyUnicode_Resize(&self.body, room)
            else:
                self.resize_bytes(room)
        else:
            if self.message_opcode == OPCODE_TEXT:
                fresh = PyUnicode_New(room, 127)
            else:
                fresh = PyBytes_FromStringAndSize(NULL, room)
            Py_INCREF(fresh)
            self.body = <PyObject*>fresh
        self.body_room = room
        return 0

    cdef int resize_bytes(self, uint64_t room) except -1:
        """Resize the body, a `bytes`. If there is no memory, CPython has freed it, and it is empty."""
        try:
            _PyBytes_Resize(&self.body, room)
        except MemoryError:
            self.body_size = self.body_room = 0
            raise
        return 0

    cdef bint extend_body(self, uint64_t size, bint ascii) noexcept:
        """Count so many more bytes, which stand in the body. Returns False if its text can not be UTF-8 any more
        (section 8.1); then they are not counted."""
        if self.message_opcode == OPCODE_TEXT and not (ascii and self.ascii):
            self.ascii = False
            if not crest_utf8_feed(&self.utf8, body_of(self) + self.body_size, size):
                return False
        self.body_size += size
        return True

    cdef object whole_body(self):
        """Return the complete message, whose text is valid: its bytes or its str. `drop_body` must follow."""
        if self.body_size == 0:
            return "" if self.message_opcode == OPCODE_TEXT else b""
        if not self.ascii:
            return decode_valid_text(body_of(self), self.body_size)
        if self.message_opcode == OPCODE_TEXT:
            PyUnicode_Resize(&self.body, self.body_size)
        else:
            self.resize_bytes(self.body_size)
        return <object>self.body

    cdef void drop_body(self) noexcept:
        Py_CLEAR(self.body)
        self.body_size = self.body_room = 0
