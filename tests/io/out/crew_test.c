/* Everything is claimed once and done when the job is over, and no helper is left behind; for a thread sanitizer. */
#include <stdio.h>
#include <string.h>

#include "crew.h"

enum { THINGS = 1000, JOBS = 2000, AT_ONCE = 7 };

static int done[THINGS];
static size_t next;

static void work(void *argument) {
    int *expected = argument;
    size_t at;
    while ((at = crest_claim(&next, AT_ONCE)) < THINGS)
        for (size_t i = at; i < at + AT_ONCE && i < THINGS; i++)
            if (done[i]++ != *expected) done[i] = -1;
}

int main(void) {
    for (int helpers = 1; helpers <= 5; helpers += 2) {
        crest_crew *crew = crest_crew_new(helpers);
        if (crew == NULL) return 2;
        memset(done, 0, sizeof done);
        for (int job = 0; job < JOBS; job++) {
            next = 0;
            crest_crew_run(crew, work, &job);
            for (int i = 0; i < THINGS; i++)
                if (done[i] != job + 1) return printf("job %d, thing %d: done %d times\n", job, i, done[i]), 1;
        }
        crest_crew_free(crew);
    }
    return 0;
}
