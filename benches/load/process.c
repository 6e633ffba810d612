#define _GNU_SOURCE
#include "process.h"

#include <dirent.h>
#include <string.h>
#include <time.h>

#include "fail.h"

static pid_t parent_of(pid_t pid) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t n = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[n] = 0;
    /* The name in parentheses may hold anything, so the fields are counted from its end. */
    const char *fields = strrchr(line, ')');
    int parent = 0;
    return fields && sscanf(fields + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static int holds(const struct processes *processes, pid_t pid) {
    for (int i = 0; i < processes->count; i++)
        if (processes->pids[i] == pid) return 1;
    return 0;
}

void processes_find(struct processes *processes, pid_t root) {
    processes->pids[0] = root;
    processes->count = 1;
    /* A child may have a lower number than its parent, so look until no more turn up. */
    for (int before = 0; before != processes->count;) {
        before = processes->count;
        DIR *proc = opendir("/proc");
        if (!proc) fail("cannot read /proc");
        for (struct dirent *entry; (entry = readdir(proc));) {
            pid_t pid = atoi(entry->d_name);
            if (pid <= 0 || holds(processes, pid) || !holds(processes, parent_of(pid))) continue;
            if (processes->count == PROCESSES_MAX) fail("the server has more than %d processes", PROCESSES_MAX);
            processes->pids[processes->count++] = pid;
        }
        closedir(proc);
    }
}

uint64_t processes_cpu(const struct processes *processes) {
    uint64_t total = 0;
    for (int i = 0; i < processes->count; i++) {
        /* The same time as utime + stime of /proc/PID/stat, but in nanoseconds instead of ticks of 10 ms. */
        clockid_t clock;
        struct timespec time;
        if (clock_getcpuclockid(processes->pids[i], &clock) || clock_gettime(clock, &time))
            fail("process %d of the server has ended", (int)processes->pids[i]);
        total += (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    }
    return total;
}

uint64_t processes_resident(const struct processes *processes) {
    uint64_t total = 0;
    for (int i = 0; i < processes->count; i++) {
        /* smaps_rollup counts pages; the VmRSS of status lags behind by up to a batch of pages for each CPU. */
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)processes->pids[i]);
        FILE *file = fopen(path, "r");
        if (!file) fail("cannot read %s", path);
        unsigned long long kilobytes = 0;
        while (fgets(line, sizeof line, file))
            if (sscanf(line, "Rss: %llu", &kilobytes) == 1) break;
        fclose(file);
        total += kilobytes * 1024;
    }
    return total;
}
