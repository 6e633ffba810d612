/* How every part of the load generator ends on an error: one line on stderr and exit status 1.
 *
 * Nothing is retried or counted: a server that sends one wrong byte has no figures worth printing. */
#ifndef LOAD_FAIL_H
#define LOAD_FAIL_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((format(printf, 1, 2))) static inline _Noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

#endif
