/* A clock for a server under simulation: time of day is what stands in the file CLOCK, in microseconds since 1970. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *clock_at;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *place = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (place != MAP_FAILED) clock_at = place;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    if (!clock_at) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        at->tv_sec = now.tv_sec;
        at->tv_usec = now.tv_nsec / 1000;
        return 0;
    }
    at->tv_sec = *clock_at / 1000000;
    at->tv_usec = *clock_at % 1000000;
    return 0;
}

time_t time(time_t *at) {
    struct timeval now;
    gettimeofday(&now, NULL);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
