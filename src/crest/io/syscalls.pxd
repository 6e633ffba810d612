# System calls on sockets, and the clock; see syscalls.h.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "syscalls.h" nogil:
    ctypedef struct crest_piece:
        void* owner
        const char* data
        size_t size
    ctypedef struct crest_address:
        uint8_t bytes[16]
        uint16_t port
        uint8_t version

    const ptrdiff_t CREST_WOULD_BLOCK
    const ptrdiff_t CREST_BROKEN
    const int CREST_REFUSED
    enum:
        CREST_ADDRESS_TEXT

    const bint CREST_MONOTONIC
    uint64_t crest_now()
    uint32_t crest_milliseconds()
    int crest_process()

    ptrdiff_t crest_send(int fd, const crest_piece* pieces, size_t count, bint ends)
    ptrdiff_t crest_send_some(int fd, const crest_piece* pieces, size_t count, size_t most, bint ends)
    uint8_t crest_units(uint32_t bytes)
    bint crest_ends_segment(uint8_t* sent, uint8_t most, size_t size)
    void crest_limit_ahead(int fd, uint32_t most)
    ptrdiff_t crest_recv(int fd, char* data, size_t room)
    ptrdiff_t crest_peek(int fd, char* data, size_t room)
    void crest_shut_down(int fd)
    int crest_shut_down_writing(int fd)
    void crest_close(int fd)
    void crest_prefetch(const void* address)

    bint crest_is_readable(int fd)
    int crest_accept(int fd, crest_address* peer)
    int crest_address_text(const crest_address* address, char* text)

    bint crest_has_input(int fd)
    bint crest_takes_output(int fd, uint32_t* acknowledged)
    bint crest_is_silent(int fd, uint32_t* exchanged)
