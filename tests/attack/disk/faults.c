/* A disk that fails or is full, for one process: the test that compiles this says so in tests/attack/disk.rs.
 *
 * The system hands the calls below to a handler before it does them (seccomp, SECCOMP_RET_TRAP), also those that a
 * program makes without the C library. The handler looks up what the test has written to the file $FAULTS/rules, and
 * lets a call fail, or makes it. Lines of that file:
 *
 *   fail CALL ERRNO PART   a call fails whose file has a name with PART in it
 *   capacity BYTES         all files of the directory together have no more room than that
 *
 * Calls that were made or refused for files in the directory $FAULTS_FOR are noted in $FAULTS/log, with 0 or the error. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* The sixth argument of a call that the handler itself makes. No call below has one. */
#define OWN 0x0fa17ed5u

static const struct { int number; const char *name; } calls[] = {
    { SYS_pwrite64, "pwrite" }, { SYS_fdatasync, "fdatasync" }, { SYS_fsync, "fsync" },
    { SYS_fallocate, "fallocate" }, { SYS_renameat, "rename" }, { SYS_renameat2, "rename" },
#ifdef SYS_rename
    { SYS_rename, "rename" },
#endif
};
#define CALLS (sizeof calls / sizeof *calls)

static char directory[4096], rules[4096];
static int log_file = -1;

static void give_up(const char *what) {
    dprintf(2, "faults: %s: %m\n", what);
    _exit(70);
}

/* How many bytes all files but one have, by their lengths: a server reserves what it is going to write. */
static long long others(ino_t file) {
    long long sum = 0;
    DIR *open = opendir(directory);
    struct dirent *entry;
    struct stat status;
    while (open && (entry = readdir(open)))
        if (!fstatat(dirfd(open), entry->d_name, &status, 0) && S_ISREG(status.st_mode) && status.st_ino != file)
            sum += status.st_size;
    if (open) closedir(open);
    return sum;
}

/* The error that a call is to fail with, or 0. */
static int verdict(const char *call, const char *name, const unsigned long long *a) {
    char line[256], wanted[32], part[64];
    long long capacity;
    int error, found = 0;
    FILE *file = fopen(rules, "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        if (sscanf(line, "fail %31s %d %63s", wanted, &error, part) == 3) {
            if (!strcmp(wanted, call) && strstr(name, part)) found = error;
        } else if (sscanf(line, "capacity %lld", &capacity) == 1) {
            int reserves = !strcmp(call, "fallocate");
            if (!reserves && strcmp(call, "pwrite")) continue;
            struct stat status;
            if (fstat((int)a[0], &status)) continue;
            /* fallocate(file, mode, offset, length), and pwrite(file, bytes, length, offset) */
            long long end = (long long)(a[2] + a[3]);
            /* What a file has already, it keeps. */
            if (end > status.st_size && end + others(status.st_ino) > capacity) found = ENOSPC;
        }
    }
    if (file) fclose(file);
    return found;
}

static void handle(int signal, siginfo_t *info, void *context) {
    (void)signal;
    int before = errno;
    mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
#if defined __x86_64__
    greg_t *r = machine->gregs;
    unsigned long long a[] = { r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8] };
#elif defined __aarch64__
    unsigned long long *r = machine->regs;
    unsigned long long a[] = { r[0], r[1], r[2], r[3], r[4] };
#else
#error "say here where this processor has the arguments of a call"
#endif
    const char *call = "";
    for (size_t n = 0; n < CALLS; n++)
        if (calls[n].number == info->si_syscall) call = calls[n].name;
    char path[4096] = "", link[64];
    if (info->si_syscall == SYS_renameat || info->si_syscall == SYS_renameat2) {
        snprintf(path, sizeof path, "%s", (const char *)a[3]);
#ifdef SYS_rename
    } else if (info->si_syscall == SYS_rename) {
        snprintf(path, sizeof path, "%s", (const char *)a[1]);
#endif
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", (int)a[0]);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length < 0 ? 0 : length] = 0;
    }
    size_t length = strlen(directory);
    int is_ours = !strncmp(path, directory, length) && (path[length] == '/' || !path[length]);
    const char *name = !is_ours ? "" : path[length] ? path + length + 1 : ".";
    long result = is_ours ? -verdict(call, name, a) : 0;
    if (!result) {
        result = syscall(info->si_syscall, a[0], a[1], a[2], a[3], a[4], (unsigned long long)OWN);
        if (result < 0) result = -errno;
    }
    if (is_ours) dprintf(log_file, "%s %s %ld\n", call, name, result < 0 ? -result : 0);
#if defined __x86_64__
    r[REG_RAX] = result;
#else
    r[0] = result;
#endif
    errno = before;
}

__attribute__((constructor)) static void begin(void) {
    const char *faults = getenv("FAULTS"), *data = getenv("FAULTS_FOR");
    if (!faults || !data) return;
    snprintf(rules, sizeof rules, "%s/rules", faults);
    snprintf(directory, sizeof directory, "%s", data);
    char path[4096];
    snprintf(path, sizeof path, "%s/log", faults);
    log_file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_file < 0) give_up(path);
    struct sigaction action = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO };
    if (sigaction(SIGSYS, &action, NULL)) give_up("sigaction");
    struct sock_filter filter[3 + CALLS + 2] = {
        /* A call of the handler itself. */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN, CALLS + 1, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    for (size_t n = 0; n < CALLS; n++)
        filter[3 + n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[n].number, CALLS - n, 0);
    filter[3 + CALLS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[4 + CALLS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) give_up("no new privileges");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) give_up("seccomp");
}
