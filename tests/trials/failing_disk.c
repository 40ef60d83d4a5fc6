/* A disk that fails when it is told to, for LD_PRELOAD.
 *
 * Calls that change files below a folder are counted and noted, and the one with a given number
 * fails with a given errno. With "sticky" all later ones fail too, as on a full disk. The trial
 * arms it through ctypes. For a whole program the environment arms it: FAILING_BELOW (folder),
 * FAILING_AT (number of the call), FAILING_ERRNO and FAILING_STICKY.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define LOG_BYTES (4 << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char below[4096], log_text[LOG_BYTES];
static long at, calls, log_used;
static int number, sticky, fired;

void failing_arm(const char *folder, long call, int error, int stays) {
  pthread_mutex_lock(&lock);
  snprintf(below, sizeof below, "%s", folder);
  at = call, number = error, sticky = stays, calls = 0, fired = 0, log_used = 0, log_text[0] = 0;
  pthread_mutex_unlock(&lock);
}

int failing_disarm(void) {
  below[0] = 0;
  return fired;
}

const char *failing_log(void) { return log_text; }

__attribute__((constructor)) static void from_environment(void) {
  const char *folder = getenv("FAILING_BELOW");
  if (folder && getenv("FAILING_AT"))
    failing_arm(folder, atol(getenv("FAILING_AT")), atoi(getenv("FAILING_ERRNO")),
                getenv("FAILING_STICKY") != NULL);
}

/* Whether the call fails; notes it when it does not. */
static int fails(const char *call, const char *path, const char *other) {
  int fail = 0;
  if (!below[0] || strncmp(path, below, strlen(below))) return 0;
  pthread_mutex_lock(&lock);
  calls++;
  fail = at && (calls == at || (sticky && calls > at));
  if (fail) {
    fired = 1;
  } else if (log_used < LOG_BYTES - 9000) {
    log_used += snprintf(log_text + log_used, LOG_BYTES - log_used, "%s\t%s\t%s\n", call, path, other);
  }
  pthread_mutex_unlock(&lock);
  if (fail) errno = number;
  return fail;
}

static int fails_at(const char *call, int descriptor) {
  char link[64], path[4096];
  if (!below[0]) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return fails(call, path, "");
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
  REAL(write);
  return fails_at("write", fd) ? -1 : real(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
  REAL(pwrite64);
  return fails_at("write", fd) ? -1 : real(fd, data, size, offset);
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t size) {
  REAL(sendfile64);
  return fails_at("write", out) ? -1 : real(out, in, offset, size);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t size) {
  REAL(sendfile);
  return fails_at("write", out) ? -1 : real(out, in, offset, size);
}

int fsync(int fd) {
  REAL(fsync);
  return fails_at("fsync", fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
  REAL(fdatasync);
  return fails_at("fsync", fd) ? -1 : real(fd);
}

int rename(const char *from, const char *to) {
  REAL(rename);
  return fails("rename", from, to) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  if (!access(path, F_OK)) return real(path, mode); /* EEXIST */
  return fails("create", path, "") ? -1 : real(path, mode);
}

int open64(const char *path, int flags, ...) {
  REAL(open64);
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  int creates = (flags & O_CREAT) && access(path, F_OK);
  return creates && fails("create", path, "") ? -1 : real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
  REAL(open);
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  int creates = (flags & O_CREAT) && access(path, F_OK);
  return creates && fails("create", path, "") ? -1 : real(path, flags, mode);
}
