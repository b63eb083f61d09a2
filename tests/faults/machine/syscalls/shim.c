/* Sits between a process and the C library (LD_PRELOAD) and knows every call that changes what a disk holds.
 *
 * Whoever maps the same control page (shim.py) decides, while processes run, which calls below which folder
 * are counted, at which of them the process dies, fails or writes only a part, and whether each call goes into
 * a trace with its bytes. A call counts when its file lies below `below` and not below `except`.
 *
 * Why no strace: it stops the process twice at every call of every kind, counts by thread and not by process,
 * and gives no bytes. Python, RocksDB and SQLite all go through the C library; `--check-with-strace` shows
 * that the kernel sees not one durable call more than this does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE, WRITE, FSYNC, FDATASYNC, SYNCFS, RENAME, UNLINK, RMDIR, MKDIR, TRUNCATE, ALLOCATE, LINK,
            KINDS, MARK = 99 };
enum action { PASS, KILL, FAIL, SHORT, TORN };

struct control {
    uint32_t armed, action, error, kinds;
    int64_t first, last, passed, acted;
    int64_t counts[16];
    char below[1024], except[1024], trace[1024];
};

struct entry { int64_t number, offset, data_length; int32_t kind, result, path_length, other_length; };

static struct control *control;
static int trace_fd = -1;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static __thread int suspended;

__attribute__((constructor)) static void map_control(void) {
    const char *path = getenv("ATTESTREAM_SHIM");
    if (!path) return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (page != MAP_FAILED) control = page;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* ---- which file, and whose business it is ------------------------------------------------------------- */

static int absolute(int folder, const char *path, char *out) {
    char base[PATH_MAX];
    if (path[0] == '/') return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
    }
    return snprintf(out, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

static int of_descriptor(int fd, char *out) {
    char link[64];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    errno = before;
    if (length < 0) return 0;
    out[length] = 0;
    return 1;
}

static int is_below(const char *path, const char *folder) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int is_asked(void) { return control && control->armed && !suspended; }

static int is_ours(const char *path) {
    return is_below(path, control->below) && !is_below(path, control->except);
}

/* ---- one call ----------------------------------------------------------------------------------------- */

struct call { int64_t number; enum kind kind; const char *path, *other; int is_traced, act; };

static struct call begin(enum kind kind, const char *path, const char *other) {
    struct call call = { 0, kind, path, other, control->trace[0] != 0, PASS };
    if (call.is_traced) pthread_mutex_lock(&order);
    __atomic_add_fetch(&control->counts[kind], 1, __ATOMIC_SEQ_CST);
    if (!(control->kinds & (1u << kind))) return call;
    call.number = __atomic_add_fetch(&control->passed, 1, __ATOMIC_SEQ_CST);
    if (call.number < control->first || call.number > control->last) return call;
    call.act = control->action;
    if (call.act == PASS) return call;
    __atomic_add_fetch(&control->acted, 1, __ATOMIC_SEQ_CST);
    return call;
}

static void put(const void *data, size_t length) {
    while (length) {
        ssize_t done = syscall(SYS_write, trace_fd, data, length);
        if (done <= 0) { fprintf(stderr, "the trace cannot be written\n"); abort(); }
        data = (const char *)data + done;
        length -= done;
    }
}

static void trace(const struct call *call, int result, int64_t offset, const struct iovec *data, int count) {
    struct entry entry = { call->number, offset, 0, call->kind, result, 0, 0 };
    if (trace_fd < 0)
        trace_fd = syscall(SYS_openat, AT_FDCWD, control->trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    size_t left = result > 0 && count ? (size_t)result : 0;
    entry.data_length = left;
    entry.path_length = strlen(call->path);
    entry.other_length = call->other ? strlen(call->other) : 0;
    put(&entry, sizeof entry);
    put(call->path, entry.path_length);
    if (call->other) put(call->other, entry.other_length);
    for (int i = 0; i < count && left; i++) {
        size_t part = data[i].iov_len < left ? data[i].iov_len : left;
        put(data[i].iov_base, part);
        left -= part;
    }
}

static void finish(struct call *call, int64_t result, int64_t offset, const struct iovec *data, int count) {
    if (!call->is_traced) return;
    int before = errno;
    trace(call, result < 0 ? -1 : (int)result, offset, data, count);
    pthread_mutex_unlock(&order);
    errno = before;
}

static void die(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

/* What happens to a call that is not a write: 1 when it was refused. */
static int is_refused(struct call *call) {
    if (call->act == KILL || call->act == TORN) die();
    if (call->act != FAIL) return 0;
    finish(call, -1, 0, NULL, 0);
    errno = control->error;
    return 1;
}

#define SIMPLE(kind, path, other, expression) \
    do { \
        struct call call = begin(kind, path, other); \
        if (is_refused(&call)) return -1; \
        int result = expression; \
        finish(&call, result, 0, NULL, 0); \
        return result; \
    } while (0)

/* ---- writes ------------------------------------------------------------------------------------------- */

static ssize_t real_write(int fd, const struct iovec *data, int count, int64_t at) {
    return at < 0 ? syscall(SYS_writev, fd, data, count) : syscall(SYS_pwritev, fd, data, count, at, 0);
}

/* `at` < 0: where the descriptor stands. */
static ssize_t written(int fd, const struct iovec *data, int count, int64_t at, const char *path) {
    struct call call = begin(WRITE, path, NULL);
    struct iovec part = { NULL, 0 };
    int64_t offset = at;
    if (at < 0 && call.is_traced) {
        struct stat status;
        if (fcntl(fd, F_GETFL) & O_APPEND) offset = fstat(fd, &status) ? 0 : status.st_size;
        else offset = lseek(fd, 0, SEEK_CUR);
    }
    if (call.act == KILL) die();
    if (call.act == FAIL) {
        finish(&call, -1, offset, NULL, 0);
        errno = control->error;
        return -1;
    }
    if (call.act == SHORT || call.act == TORN) {
        part = data[0];
        if (part.iov_len > 1) part.iov_len /= 2;
        data = &part;
        count = 1;
    }
    ssize_t result = real_write(fd, data, count, at);
    if (call.act == TORN) {
        finish(&call, result, offset, data, count);
        die();
    }
    finish(&call, result, offset, data, count);
    return result;
}

#define IS_OURS_BY_DESCRIPTOR(fd) char path[PATH_MAX]; int ours = is_asked() && of_descriptor(fd, path) && is_ours(path)

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write);
    IS_OURS_BY_DESCRIPTOR(fd);
    if (!ours) return real(fd, data, length);
    struct iovec one = { (void *)data, length };
    return written(fd, &one, 1, -1, path);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    REAL(pwrite64);
    IS_OURS_BY_DESCRIPTOR(fd);
    if (!ours) return real(fd, data, length, offset);
    struct iovec one = { (void *)data, length };
    return written(fd, &one, 1, offset, path);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return pwrite64(fd, data, length, offset);
}

ssize_t writev(int fd, const struct iovec *data, int count) {
    REAL(writev);
    IS_OURS_BY_DESCRIPTOR(fd);
    return ours ? written(fd, data, count, -1, path) : real(fd, data, count);
}

ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t offset) {
    REAL(pwritev64);
    IS_OURS_BY_DESCRIPTOR(fd);
    return ours ? written(fd, data, count, offset, path) : real(fd, data, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *data, int count, off_t offset) {
    return pwritev64(fd, data, count, offset);
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    IS_OURS_BY_DESCRIPTOR(fd);
    if (!ours) return real(fd, length);
    struct call call = begin(TRUNCATE, path, NULL);
    if (is_refused(&call)) return -1;
    int result = real(fd, length);
    finish(&call, result, length, NULL, 0);
    return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    REAL(fallocate64);
    IS_OURS_BY_DESCRIPTOR(fd);
    if (!ours) return real(fd, mode, offset, length);
    SIMPLE(ALLOCATE, path, NULL, real(fd, mode, offset, length));
}

int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    return fallocate64(fd, 0, offset, length) ? errno : 0;
}

int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

/* ---- syncs -------------------------------------------------------------------------------------------- */

#define SYNC(name, kind) \
    int name(int fd) { \
        REAL(name); \
        IS_OURS_BY_DESCRIPTOR(fd); \
        if (!ours) return real(fd); \
        SIMPLE(kind, path, NULL, real(fd)); \
    }

SYNC(fsync, FSYNC)
SYNC(fdatasync, FDATASYNC)
SYNC(syncfs, SYNCFS)

/* ---- names -------------------------------------------------------------------------------------------- */

static int is_there(const char *path) {
    int before = errno;
    int found = !syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
    errno = before;
    return found;
}

static int opened(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    if (is_asked() && flags & (O_CREAT | O_TRUNC) && absolute(folder, name, path) && is_ours(path)) {
        /* Opening a file that is there, as it is, changes nothing. */
        if (flags & O_TRUNC || !is_there(path)) SIMPLE(CREATE, path, NULL, syscall(SYS_openat, folder, name, flags, mode));
    }
    return syscall(SYS_openat, folder, name, flags, mode);
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, last); mode = va_arg(rest, int); va_end(rest); }

int open(const char *name, int flags, ...) { MODE(flags) return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags) return opened(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE(flags) return opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE(flags) return opened(folder, name, flags, mode); }
int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int renameat2(int from, const char *name, int to, const char *other, unsigned flags) {
    char path[PATH_MAX], target[PATH_MAX];
    if (is_asked() && absolute(from, name, path) && absolute(to, other, target) && (is_ours(path) || is_ours(target)))
        SIMPLE(RENAME, path, target, syscall(SYS_renameat2, from, name, to, other, flags));
    return syscall(SYS_renameat2, from, name, to, other, flags);
}

int renameat(int from, const char *name, int to, const char *other) { return renameat2(from, name, to, other, 0); }
int rename(const char *name, const char *other) { return renameat2(AT_FDCWD, name, AT_FDCWD, other, 0); }

int linkat(int from, const char *name, int to, const char *other, int flags) {
    char path[PATH_MAX], target[PATH_MAX];
    if (is_asked() && absolute(from, name, path) && absolute(to, other, target) && is_ours(target))
        SIMPLE(LINK, path, target, syscall(SYS_linkat, from, name, to, other, flags));
    return syscall(SYS_linkat, from, name, to, other, flags);
}

int link(const char *name, const char *other) { return linkat(AT_FDCWD, name, AT_FDCWD, other, 0); }

int unlinkat(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    if (is_asked() && absolute(folder, name, path) && is_ours(path))
        SIMPLE(flags & AT_REMOVEDIR ? RMDIR : UNLINK, path, NULL, syscall(SYS_unlinkat, folder, name, flags));
    return syscall(SYS_unlinkat, folder, name, flags);
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (is_asked() && absolute(folder, name, path) && is_ours(path) && !is_there(path))
        SIMPLE(MKDIR, path, NULL, syscall(SYS_mkdirat, folder, name, mode));
    return syscall(SYS_mkdirat, folder, name, mode);
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* ---- for the process itself --------------------------------------------------------------------------- */

/* This thread's calls are somebody else's for a while. */
void attestream_suspend(int yes) { suspended = yes; }

/* A remark in the trace, between the calls that it stands between. */
void attestream_mark(const char *text) {
    if (!control || !control->armed || !control->trace[0]) return;
    struct call call = { 0, MARK, text, NULL, 1, PASS };
    pthread_mutex_lock(&order);
    finish(&call, 0, 0, NULL, 0);
}
