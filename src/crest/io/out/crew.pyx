"""Threads that send a broadcast to very many connections, beside the loop's own.

They run without the GIL. The only Python objects that they touch are the members in slots that they have claimed. No
other thread looks at those meanwhile, and the loop waits for the helpers. On two cores a broadcast to thousands takes
half the time, and as much CPU (decision 0011).
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from crest.io.out.offer cimport offer
from crest.io.out.outbox cimport Outbox
from crest.io.syscalls cimport crest_now, crest_piece, crest_prefetch

cdef enum:
    CLAIM = 64          # members at a time
    MANY = 4 * CLAIM    # for fewer, no helper is called


cdef struct Job:
    PyObject** members
    size_t end              # behind the last member
    size_t next             # the first that no thread has claimed
    const crest_piece* pieces
    size_t count
    uint64_t start, goal
    uint64_t deadline
    Part* parts
    size_t part_count


@cython.final
@cython.no_gc
cdef class Crew:
    """The threads of one loop.

    Args:
        threads: how many threads send, the loop's own included.
    """

    def __cinit__(self, int threads):
        self.helpers = min(threads - 1, CREST_MOST_THREADS - 1)

    def __dealloc__(self):
        self.stop()

    cdef void stop(self) noexcept:
        """End the helpers: the loop's own thread sends alone."""
        self.helpers = 0
        crest_crew_free(self.crew)
        self.crew = NULL

    cdef size_t serve(
            self, PyObject** members, size_t end, size_t* at, const crest_piece* pieces, size_t count, uint64_t start,
            uint64_t goal, uint64_t deadline, Part* parts) except? 0:
        """Send the log from `start` to `goal` to members from `at` to `end`, as long as there is time.

        `at` gets how far that has come. Members that took everything have seen `goal` then. Members that took a part
        are in `parts`, one for each thread at most; returns how many. Some members may be left out."""
        cdef Job job
        if end - min(at[0], end) < MANY or not self.is_there():
            return 0
        job.members = members
        job.end = end
        job.next = at[0]
        job.pieces = pieces
        job.count = count
        job.start = start
        job.goal = goal
        job.deadline = deadline
        job.parts = parts
        job.part_count = 0
        with nogil:
            crest_crew_run(self.crew, run, &job)
        at[0] = min(job.next, job.end)
        return job.part_count

    cdef bint is_there(self) noexcept:
        """True if there are helpers. They start at the first call."""
        if self.crew == NULL and self.helpers:
            self.crew = crest_crew_new(self.helpers)
            if self.crew == NULL:
                self.helpers = 0
        return self.crew != NULL


cdef void run(void* argument) noexcept nogil:
    """Claim members and send to them: the job of each thread."""
    cdef Job* job = <Job*>argument
    cdef size_t slot, stop, size = job.goal - job.start
    cdef Part* part
    cdef ptrdiff_t sent
    while crest_now() < job.deadline:
        slot = crest_claim(&job.next, CLAIM)
        stop = min(slot + CLAIM, job.end)
        if slot >= stop:
            return
        while slot < stop:
            if slot + 2 < stop:
                crest_prefetch(job.members[slot + 2])
            if (<Outbox>job.members[slot]).seen < job.goal:
                sent = offer(<Outbox>job.members[slot], job.pieces, job.count, job.start, job.goal)
                if 0 < sent < <ptrdiff_t>size:
                    # The rest of this claim is left to the loop.
                    part = job.parts + crest_claim(&job.part_count, 1)
                    part.slot = slot
                    part.sent = sent
                    return
            slot += 1
