/* Memory that runs out when the test says so: a Python module that stands in all three of CPython's allocator domains.

   run(callable, *args) calls with the allocator armed, in the calling thread: the allocations are counted from 0, and
   those from `first` to `first + count - 1` fail, as fail(first, count) has said. Counting goes on from one run to the
   next. pause() disarms within a run, for what must not need memory, and resume() arms again. Where each allocation
   failed stands on stderr: addresses in the modules, and lines of Python.

   Instead of failing, an allocation may have the garbage collector run, as collect(number) has said: the collector is
   enabled then, which must be disabled, and have enough to do. It stays so while armed, until collected(). The collector
   runs only where no free object was at hand, so prepare(callable) has all of those let go before each run: callable(0)
   is called, then the collector, then callable(1), which makes the garbage. */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef __GLIBC__
#include <dlfcn.h>
#include <execinfo.h>
#include <unistd.h>
#endif

enum { DOMAINS = 3, FRAMES = 40 };

static PyMemAllocatorEx before[DOMAINS];
static _Thread_local int armed, within;
static Py_ssize_t counted, failed, first_to_fail, last_to_fail = -1, first_to_collect = -1;
static int due; /* the collector is to run */
static PyObject *preparation;

static void tell(const char *line)
{
#ifdef __GLIBC__
    void *frames[FRAMES];
    int count = backtrace(frames, FRAMES);
    void (*dump)(int, PyThreadState *) = (void (*)(int, PyThreadState *))dlsym(RTLD_DEFAULT, "_Py_DumpTraceback");
    if (write(STDERR_FILENO, line, strlen(line)) > 0)
        backtrace_symbols_fd(frames, count, STDERR_FILENO);
    if (dump != NULL)
        dump(STDERR_FILENO, PyThreadState_Get());
#endif
}

static int fails(void *domain)
{
    if (!armed)
        return 0;
    Py_ssize_t number = counted++;
    if (number >= first_to_collect && first_to_collect >= 0 && domain != &before[0]) {
        first_to_collect = -1;
        due = 1;
        PyGC_Enable();
    }
    if (number < first_to_fail || number > last_to_fail)
        return 0;
    tell(failed++ == 0 ? "failed allocation:\n" : "and then:\n");
    return 1;
}

static void *hostile_malloc(void *domain, size_t size)
{
    PyMemAllocatorEx *own = domain;
    return fails(domain) ? NULL : own->malloc(own->ctx, size);
}

static void *hostile_calloc(void *domain, size_t count, size_t size)
{
    PyMemAllocatorEx *own = domain;
    return fails(domain) ? NULL : own->calloc(own->ctx, count, size);
}

static void *hostile_realloc(void *domain, void *memory, size_t size)
{
    PyMemAllocatorEx *own = domain;
    return fails(domain) ? NULL : own->realloc(own->ctx, memory, size);
}

static void hostile_free(void *domain, void *memory)
{
    PyMemAllocatorEx *own = domain;
    own->free(own->ctx, memory);
}

static PyObject *fail(PyObject *module, PyObject *args)
{
    Py_ssize_t first, count;
    if (!PyArg_ParseTuple(args, "nn", &first, &count))
        return NULL;
    counted = failed = 0;
    first_to_fail = first;
    last_to_fail = first + count - 1;
    Py_RETURN_NONE;
}

static PyObject *collect(PyObject *module, PyObject *args)
{
    Py_ssize_t after;
    if (!PyArg_ParseTuple(args, "n", &after))
        return NULL;
    first_to_collect = after < 0 ? -1 : counted + after;
    due = 0;
    PyGC_Disable();
    Py_RETURN_NONE;
}

static PyObject *collected(PyObject *module, PyObject *unused)
{
    due = 0;
    PyGC_Disable();
    Py_RETURN_NONE;
}

static void arm(int whether)
{
    armed = whether;
    if (due && whether)
        PyGC_Enable();
    else if (due)
        PyGC_Disable();
}

static PyObject *prepare(PyObject *module, PyObject *callable)
{
    Py_XSETREF(preparation, callable == Py_None ? NULL : Py_NewRef(callable));
    Py_RETURN_NONE;
}

static int prepared(int step)
{
    PyObject *number = PyLong_FromLong(step);
    PyObject *result = number == NULL ? NULL : PyObject_CallOneArg(preparation, number);
    Py_XDECREF(number);
    Py_XDECREF(result);
    return result != NULL;
}

static int let_go(void)
{
    if (preparation == NULL)
        return 1;
    if (!prepared(0))
        return 0;
    PyGC_Enable();
    PyGC_Collect();
    PyGC_Disable();
    return prepared(1);
}

static PyObject *run(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int outer = armed;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "run() takes a callable");
        return NULL;
    }
    if (!within && !let_go())
        return NULL;
    within++;
    arm(1);
    PyObject *result = PyObject_Vectorcall(args[0], args + 1, (size_t)count - 1, NULL);
    arm(outer);
    within--;
    return result;
}

static PyObject *pause_(PyObject *module, PyObject *unused)
{
    arm(0);
    Py_RETURN_NONE;
}

static PyObject *resume(PyObject *module, PyObject *unused)
{
    arm(within > 0);
    Py_RETURN_NONE;
}

static PyObject *counts(PyObject *module, PyObject *unused)
{
    return Py_BuildValue("nn", counted, failed);
}

static PyMethodDef methods[] = {
    {"fail", fail, METH_VARARGS, "Have allocations fail: from the first on, so many."},
    {"run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, "Call with the allocator armed; returns what that does."},
    {"pause", pause_, METH_NOARGS, "Disarm, within a run."},
    {"resume", resume, METH_NOARGS, "Arm again, within a run."},
    {"collect", collect, METH_VARARGS, "Have the collector run, after so many allocations more; less than 0: not."},
    {"collected", collected, METH_NOARGS, "It has."},
    {"prepare", prepare, METH_O, "Have free objects let go before each run; None: not."},
    {"counts", counts, METH_NOARGS, "How many allocations there were, and how many of them failed."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "hostile_allocator", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_hostile_allocator(void)
{
    static const PyMemAllocatorDomain domains[DOMAINS] = {
        PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    PyObject *module = PyModule_Create(&definition);
#ifdef __GLIBC__
    void *frame;
    backtrace(&frame, 1); /* loads what it needs, once */
#endif
    for (int i = 0; module != NULL && i < DOMAINS; i++) {
        PyMem_GetAllocator(domains[i], &before[i]);
        PyMemAllocatorEx own = {&before[i], hostile_malloc, hostile_calloc, hostile_realloc, hostile_free};
        PyMem_SetAllocator(domains[i], &own);
    }
    return module;
}
