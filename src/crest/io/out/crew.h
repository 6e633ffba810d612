/* Threads that help their caller with a job for many. Knows threads; no Python, no sockets.
 *
 * The caller works on its job, too. All threads that do share it out among themselves (crest_claim). A helper that
 * comes too late for a job is not waited for. Where there are no POSIX threads there is no crew. */
#ifndef CREST_CREW_H
#define CREST_CREW_H

#include <stddef.h>
#include <stdint.h>

typedef void (*crest_job)(void *argument);

enum { CREST_MOST_THREADS = 16 };

#ifdef _WIN32

typedef struct crest_crew crest_crew;

static inline crest_crew *crest_crew_new(int helpers) {
    (void)helpers;
    return NULL;
}

static inline void crest_crew_run(crest_crew *crew, crest_job job, void *argument) {
    (void)crew;
    job(argument);
}

static inline void crest_crew_free(crest_crew *crew) {
    (void)crew;
}

static inline size_t crest_claim(size_t *next, size_t count) {
    size_t claimed = *next;
    *next += count;
    return claimed;
}

#else

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

typedef struct crest_crew {
    pthread_mutex_t lock;
    pthread_cond_t begun, ended;
    crest_job job; /* NULL: there is none, or it is too late to begin */
    void *argument;
    uint64_t jobs; /* that were given so far */
    int working;   /* helpers that work on this job */
    int over;
    pid_t process; /* that has the threads: a fork of it has not */
    int helpers;
    pthread_t threads[CREST_MOST_THREADS];
} crest_crew;

static inline void *crest_crew_help(void *argument) {
    crest_crew *crew = argument;
    uint64_t seen = 0;
    pthread_mutex_lock(&crew->lock);
    for (;;) {
        while (!crew->over && (crew->job == NULL || crew->jobs == seen)) pthread_cond_wait(&crew->begun, &crew->lock);
        if (crew->over) break;
        crest_job job = crew->job;
        seen = crew->jobs;
        crew->working++;
        pthread_mutex_unlock(&crew->lock);
        job(crew->argument);
        pthread_mutex_lock(&crew->lock);
        if (--crew->working == 0) pthread_cond_signal(&crew->ended);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

static inline void crest_crew_free(crest_crew *crew) {
    if (crew == NULL || crew->process != getpid()) return;
    pthread_mutex_lock(&crew->lock);
    crew->over = 1;
    pthread_cond_broadcast(&crew->begun);
    pthread_mutex_unlock(&crew->lock);
    for (int i = 0; i < crew->helpers; i++) pthread_join(crew->threads[i], NULL);
    pthread_cond_destroy(&crew->ended);
    pthread_cond_destroy(&crew->begun);
    pthread_mutex_destroy(&crew->lock);
    free(crew);
}

/* Start helpers: CREST_MOST_THREADS at most, fewer where the system has no room for more. NULL if there are none. */
static inline crest_crew *crest_crew_new(int helpers) {
    crest_crew *crew = calloc(1, sizeof *crew);
    sigset_t all, before;
    if (crew == NULL) return NULL;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->begun, NULL);
    pthread_cond_init(&crew->ended, NULL);
    crew->process = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* for the helpers: signals belong to the interpreter's threads */
    while (crew->helpers < helpers && crew->helpers < CREST_MOST_THREADS &&
           pthread_create(&crew->threads[crew->helpers], NULL, crest_crew_help, crew) == 0)
        crew->helpers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (crew->helpers > 0) return crew;
    crest_crew_free(crew);
    return NULL;
}

/* Run a job in this thread and in helpers. Returns when each thread that has begun with the job has ended it. */
static inline void crest_crew_run(crest_crew *crew, crest_job job, void *argument) {
    pthread_mutex_lock(&crew->lock);
    crew->job = job;
    crew->argument = argument;
    crew->jobs++;
    pthread_cond_broadcast(&crew->begun);
    pthread_mutex_unlock(&crew->lock);
    job(argument);
    pthread_mutex_lock(&crew->lock);
    crew->job = NULL;
    while (crew->working) pthread_cond_wait(&crew->ended, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
}

/* Claim the next `count` things that no thread has claimed yet; returns the index of the first. */
static inline size_t crest_claim(size_t *next, size_t count) {
    return __atomic_fetch_add(next, count, __ATOMIC_RELAXED);
}

#endif
#endif
