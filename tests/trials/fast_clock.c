/* A wall clock that runs CLOCK_RATE times too fast, for LD_PRELOAD; the monotonic one is right. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static struct timespec start;
static double rate;

int clock_gettime(clockid_t clock, struct timespec *now) {
  __typeof__(clock_gettime) *real = (__typeof__(clock_gettime) *)dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, now);
  if (result || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
  if (rate == 0) {
    const char *given = getenv("CLOCK_RATE");
    rate = given ? atof(given) : 1, start = *now;
  }
  double passed = (now->tv_sec - start.tv_sec) + (now->tv_nsec - start.tv_nsec) / 1e9;
  double shown = start.tv_nsec / 1e9 + passed * rate;
  now->tv_sec = start.tv_sec + (time_t)shown;
  now->tv_nsec = (long)((shown - (time_t)shown) * 1e9);
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval *out, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec, out->tv_usec = now.tv_nsec / 1000;
  return 0;
}
