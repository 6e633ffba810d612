/* Owns what the operating system says of the server: CPU time and resident memory, of the process and its descendants.
 * Knows nothing of the load. Linux only. */
#ifndef LOAD_PROCESS_H
#define LOAD_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

enum { PROCESSES_MAX = 64 };

struct processes {
    pid_t pids[PROCESSES_MAX];
    int count;
};

/* Finds a process and all that descend from it, as of now. */
void processes_find(struct processes *processes, pid_t root);

/* User and system time in nanoseconds, of all their threads, ended ones included. */
uint64_t processes_cpu(const struct processes *processes);

/* Resident set size in bytes, summed over the processes. */
uint64_t processes_resident(const struct processes *processes);

#endif
