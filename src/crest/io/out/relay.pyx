"""The way of broadcasts to other processes: the seam between a hub and whatever carries its messages there."""

from crest.cpython cimport PyUnicode_AsUTF8AndSize, PyUnicode_Check


cdef class Relay:
    """Carries the broadcasts of one server to wherever else its clients are.

    Compiled code overrides `relay`. A subclass in Python overrides `relayed`, which costs each message some objects.
    """

    cdef int check(self, object key) except -1:
        """Raise unless a message with this key can be relayed: before it is published anywhere."""
        cdef Py_ssize_t size
        if key is None or isinstance(key, (bytes, int)):
            return 0
        if not PyUnicode_Check(key):
            raise TypeError(f"a key that other processes are to know must be str, bytes or int, not "
                            f"{type(key).__name__}; with local=True it may be any")
        PyUnicode_AsUTF8AndSize(key, &size)  # UnicodeEncodeError, a ValueError, for a lone surrogate
        return 0

    cdef int relay(self, const Message* message) except -1:
        """Relay a message that is published here. The loop calls this once for each that is not local. What cannot be
        relayed is counted by the relay: this raises nothing that the caller could mend."""
        self.relayed(message.opcode, message.data[:message.size], <object>message.key, message.compress,
                     <object>message.to)
        return 0

    def reaches(self, process):
        """True if there may be such a process, whose connections `send_to` reaches. May be called from any thread."""
        return False

    def send_to(self, process, number, opcode, payload, compress):
        """Send a message to one connection of another process, if it is there. Called by the loop.

        Returns:
            True if the message is on its way.
        """
        return False

    def relayed(self, opcode, payload, key, compress, to):
        """Relay a message.

        Args:
            opcode: Opcode.TEXT or Opcode.BINARY.
            payload: `bytes`; of text its UTF-8.
            key: `str`, `bytes`, `int` or None.
            compress: False if it is sent as it is to all.
            to: a tuple of addresses; None: to all.
        """
        raise NotImplementedError
