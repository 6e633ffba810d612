"""One turn of an event loop: what its connections share while it lasts.

`Turn` owns the buffer that every connection reads into, the arena that small frames are written to, and a list of all
that has output due. Everything sent within one turn to one connection leaves together at its end: `Pending.flush` is
called once for each object that was added. A turn does not know what is flushed, nor to which peer.

Memory in the arena lasts only until the end of the turn. The sender copies aside what the kernel did not take by then.

Code of the application may run in the middle of anything that crest does. The garbage collector may call a finalizer
or a weakref's callback. Wherever crest calls Python, a signal's handler or one of the log may run. That code may send,
close and broadcast. So code that leaves the sending side half done for a while does it within a section
(`begin_section`, `end_section`). A call that comes within a section is held, and carried out after the outermost one:
in the order of the calls, before anything that is called later. No handler is called within a section.

Nor may a failed allocation leave anything half done: allocate first, then change what others see. Where that can not
be, and bytes would be lost or mixed up, the connection is cut.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_RawFree, PyMem_RawMalloc

import logging

from crest.io.loop.budget cimport Budget
from crest.io.loop.clock cimport Clock
from crest.io.syscalls cimport crest_process
from crest.wire.rfc6455 cimport CLOSE_TRY_AGAIN_LATER

logger = logging.getLogger("crest")

cdef size_t READ_BUFFER = 1 << 18   # bytes; one read takes what has come for a connection, up to this
cdef size_t ARENA = 1 << 18
cdef size_t LARGE = 1 << 21         # bytes: a message is hardly ever larger

# glibc's malloc gives the end of the heap back to the kernel as soon as 128 KiB are free there. It gets it back page
# fault by page fault. Once a larger block was freed, twice that block may be free instead. Before that, an `async def`
# echo of 64 KiB messages costs 1.7 times as much (`make compare`, scenario echo-64k).
PyMem_RawFree(PyMem_RawMalloc(LARGE))


@cython.no_gc  # there is no cycle: a budget does not refer to blocks
@cython.final
cdef class Block:
    """Memory that frames are appended to. A queue that has a piece of it to send holds a reference.

    Args:
        room: bytes.
        budget: that it counts against, even if the block outlives the turn; None: it does not count.
    """

    def __cinit__(self, size_t room, Budget budget):
        self.data = <char*>PyMem_Malloc(room)
        if self.data == NULL:
            raise MemoryError
        self.room = room
        if budget is not None:
            budget.take(room)
            self.budget = budget

    def __dealloc__(self):
        PyMem_Free(self.data)
        if self.budget is not None:
            self.budget.give(self.room)


cdef class Pending:
    """An object that may have output due at the end of the turn."""

    cdef int flush(self) except -1:
        raise NotImplementedError


@cython.final
cdef class Turn:
    """Holds what the connections of one event loop share.

    Args:
        loop: the event loop, in whose thread the Turn is made.
        clock: of the loop; a new one by default.
        max_backlog_total: see `Budget`.
        busy_code: close code for a peer that should come again later.
    """

    def __cinit__(
            self, loop not None, *, Clock clock=None, max_backlog_total=None, int busy_code=CLOSE_TRY_AGAIN_LATER):
        self.loop = loop
        self.clock = Clock(loop) if clock is None else clock
        self.thread = PyThreadState_Get()
        self.process = crest_process()
        self.read_buffer = bytearray(READ_BUFFER)
        self.read_view = memoryview(self.read_buffer)
        self.budget = Budget(loop, max_backlog_total, self.run)
        self.busy_code = busy_code
        self.arena = Block(ARENA, None)  # for what does not wait
        self.due = []
        self.vigils = {}

    def call_later(self, callback, *args):
        """Have a callback called as soon as it need not wait (see `must_wait`): after the section, or by the loop.

        Calls of one thread keep their order. False when the loop is closed."""
        cdef bint asked = False
        if self.sections and PyThreadState_Get() == self.thread:
            if self.delayed is None:
                self.delayed = []
            self.delayed.append((callback, args))
            return True
        try:
            self.loop.call_soon_threadsafe(callback, *args)
            asked = True
        except RuntimeError:
            pass
        return asked

    cdef int add(self, Pending pending) except -1:
        """Have output flushed at the end of this turn: once, however often it is added."""
        if pending.due or pending is self.corked:
            return 0
        if not self.scheduled:
            self.loop.call_soon(self.run)
            self.scheduled = True
        self.due.append(pending)
        pending.due = True
        return 0

    def run(self):
        """Flush what is due: the turn ends."""
        self.scheduled = False
        self.flush_all()

    cdef int flush_all(self) except -1:
        cdef Pending pending
        cdef Py_ssize_t i, count = len(self.due)
        begin_section(self)
        try:
            for i in range(count):
                pending = self.due[i]
                pending.due = False
                try:
                    pending.flush()
                except Exception:
                    logger.exception("Output could not be flushed")
            if len(self.due) == count:
                self.due.clear()  # which needs no memory
            else:
                del self.due[:count]
            if not self.due and self.corked is None:
                self.arena.used = 0
        finally:
            end_section(self)
        return 0

    cdef char* reserve(self, size_t size) except NULL:
        """Find room in the arena for `size` bytes, at most half of it, until the end of the turn.

        The caller adds the bytes that it wrote to arena.used. This may flush everything that is due, and what is
        corked: nothing else lies in the arena then."""
        if self.arena.room - self.arena.used < size:
            self.flush_all()
            if self.corked is not None:
                self.corked.flush()
            self.arena.used = 0
        return self.arena.data + self.arena.used

    cdef bint was_forked(self) noexcept:
        """True in a process that was forked from the loop's own."""
        return self.process != crest_process()

    # ---- Sections ------------------------------------------------------------------------------------------------

    cdef int make_up(self) except -1:
        """Carry out the calls that came within a section, and those that come meanwhile."""
        cdef Py_ssize_t at = 0
        held = self.delayed
        try:
            while at < len(held):
                callback, args = held[at]
                at += 1
                try:
                    callback(*args)
                except Exception:
                    logger.exception("What was called while crest was busy could not be carried out")
        finally:
            self.delayed = None if at == len(held) else held[at:]
        return 0
