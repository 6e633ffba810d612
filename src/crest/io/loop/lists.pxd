# Lists that become shorter without asking for memory: list.pop may have to move the items to a smaller array, and fail.

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from crest.cpython cimport PyListObject, PyList_GET_SIZE, Py_SET_SIZE

cdef inline int drop_last(list items) except -1:
    """Take the last item out. Its reference goes only when the list is whole again: a finalizer may look into it."""
    cdef PyObject* last = (<PyListObject*>items).ob_item[PyList_GET_SIZE(items) - 1]
    Py_SET_SIZE(items, PyList_GET_SIZE(items) - 1)
    Py_DECREF(<object>last)
    return 0


cdef inline int drop_first(list items) except -1:
    """Take the first item out; the others move up."""
    cdef PyObject** item = (<PyListObject*>items).ob_item
    cdef Py_ssize_t i, last = PyList_GET_SIZE(items) - 1
    cdef PyObject* first = item[0]
    for i in range(last):
        item[i] = item[i + 1]
    item[last] = first
    return drop_last(items)
