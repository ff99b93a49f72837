/* Processes: fork, exec, wait, pipes, groups. Argument: "self" runs it anew as a child. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static volatile int children;
static void on_child(int n) { children++; }

static void result(const char *what, int r, int expected) { printf("%s %d %d\n", what, r, errno == expected); }

static void show(const char *what, int status) {
    if (WIFEXITED(status)) printf("%s: exited %d\n", what, WEXITSTATUS(status));
    else if (WIFSIGNALED(status)) printf("%s: signal %d\n", what, WTERMSIG(status));
    else if (WIFSTOPPED(status)) printf("%s: stopped %d\n", what, WSTOPSIG(status));
    else if (WIFCONTINUED(status)) printf("%s: continued\n", what);
    fflush(stdout);
}

int main(int argc, char **argv) {
    int status;
    pid_t child;
    if (argc > 1 && !strcmp(argv[1], "self")) {
        printf("again: %s, %s=%s\n", argv[2], "VALUE", getenv("VALUE") ? getenv("VALUE") : "none");
        printf("descriptor %d\n", fcntl(atoi(argv[3]), F_GETFD) == -1 ? -errno : 0);
        return 5;
    }
    setvbuf(stdout, 0, _IOLBF, 0);
    if (!(child = fork())) _exit(42);
    waitpid(child, &status, 0);
    show("fork", status);
    if (!(child = fork())) { raise(SIGKILL); _exit(1); }
    waitpid(child, &status, 0);
    show("killed", status);
    if (!(child = fork())) abort();
    waitpid(child, &status, 0);
    show("aborted", status);
    if (!(child = fork())) { signal(SIGTERM, SIG_IGN); raise(SIGTERM); _exit(3); }
    waitpid(child, &status, 0);
    show("ignored", status);
    if (!(child = fork())) { raise(SIGSTOP); usleep(200000); _exit(6); }
    waitpid(child, &status, WUNTRACED);
    show("stop", status);
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    show("go on", status);
    waitpid(child, &status, 0);
    show("end", status);
    result("none left", waitpid(-1, &status, 0), ECHILD);

    /* a chain of pipes */
    int in = -1, ends[2];
    for (int i = 0; i < 5; i++) {
        pipe(ends);
        if (!fork()) {
            char c;
            close(ends[0]);
            if (i == 0) for (int n = 0; n < 100000; n++) write(ends[1], "x", 1 * (n < 1000));
            else while (read(in, &c, 1) == 1) c++, write(ends[1], &c, 1);
            _exit(0);
        }
        if (in >= 0) close(in);
        close(ends[1]);
        in = ends[0];
    }
    char buffer[4096];
    long count = 0, n, odd = 0;
    while ((n = read(in, buffer, sizeof buffer)) > 0) for (long i = 0; i < n; i++) count++, odd += buffer[i] != 'x' + 4;
    printf("chain %ld %ld\n", count, odd);
    while (wait(0) > 0) ;

    /* a writer that blocks, and much data */
    pipe(ends);
    if (!(child = fork())) {
        close(ends[0]);
        char *big = calloc(1, 1 << 20);
        printf("wrote %zd\n", write(ends[1], big, 1 << 20));
        _exit(0);
    }
    close(ends[1]);
    for (count = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;) count += n;
    printf("read %ld\n", count);
    wait(0);

    /* exec */
    char *words[] = {"name", "self", "argument", "77", 0}, *settings[] = {"VALUE=set", 0};
    int kept = open("/dev/null", O_RDONLY), closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(kept, 77);
    if (!(child = fork())) { execve("/proc/self/exe", words, settings); _exit(1); }
    waitpid(child, &status, 0);
    show("exec", status);
    fcntl(77, F_SETFD, FD_CLOEXEC);
    if (!(child = fork())) { execve(argv[0], words, environ); _exit(1); }
    waitpid(child, &status, 0);
    show("exec", status);
    result("exec", execve("/nonexistent", words, settings), ENOENT);
    result("exec", execve("/dev", words, settings), EACCES);

    /* vfork and spawn */
    volatile int seen = 0;
    if (!(child = vfork())) { seen = 1; _exit(8); }
    waitpid(child, &status, 0);
    show("vfork", status);
    printf("spawn %s\n", strerror(posix_spawn(&child, "/nonexistent", 0, 0, words, settings)));
    if (posix_spawn(&child, argv[0], 0, 0, words, settings) == 0) {
        waitpid(child, &status, 0);
        show("spawn", status);
    }

    /* waiting in other ways */
    struct sigaction action = {0};
    action.sa_handler = on_child;
    action.sa_flags = SA_RESTART;
    sigaction(SIGCHLD, &action, 0);
    if (!(child = fork())) _exit(9);
    siginfo_t info = {0};
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    printf("waitid %d %d %d\n", info.si_pid == child, info.si_code == CLD_EXITED, info.si_status);
    struct rusage usage;
    printf("wait4 %d\n", wait4(child, &status, 0, &usage) == child);
    printf("handler %d\n", children);
    if (!(child = fork())) { usleep(20000); _exit(0); }
    printf("not yet %d\n", waitpid(child, &status, WNOHANG));
    while (waitpid(child, &status, WNOHANG) == 0) usleep(1000);
    show("then", status);
    signal(SIGCHLD, SIG_IGN);
    if (!(child = fork())) _exit(0);
    result("reaped", waitpid(child, &status, 0), ECHILD);
    signal(SIGCHLD, SIG_DFL);

    /* groups */
    if (!(child = fork())) {
        setpgid(0, 0);
        if (!fork()) { pause(); _exit(0); }
        pause();
        _exit(0);
    }
    usleep(30000);
    printf("group %d\n", getpgid(child) == child);
    printf("kill %d\n", kill(-child, SIGTERM));
    waitpid(child, &status, 0);
    show("group", status);
    if (!(child = fork())) { printf("session %d\n", setsid() == getpid()); _exit(getsid(0) != getpid()); }
    waitpid(child, &status, 0);
    show("session", status);
    result("no such", kill(0x3ffffff, 0), ESRCH);
    return 11;
}
