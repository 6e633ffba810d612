/* A sleep of a few microseconds: how long the exchange waits for more to come. Does nothing on Windows, which has no
 * workers. */
#ifndef CREST_NAP_H
#define CREST_NAP_H

#ifdef _WIN32

static inline void crest_nap(int microseconds) {
    (void)microseconds;
}

static inline void crest_nap_sharply(void) {
}

#else

#include <time.h>

static inline void crest_nap(int microseconds) {
    struct timespec time = {.tv_sec = 0, .tv_nsec = microseconds * 1000L};
    nanosleep(&time, NULL);
}

#ifdef __linux__
#include <sys/prctl.h>

/* Have naps of this process end within a microsecond, and not within fifty. */
static inline void crest_nap_sharply(void) {
    prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
}
#else
static inline void crest_nap_sharply(void) {
}
#endif

#endif
#endif
