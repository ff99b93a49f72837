/* Signals: handlers upon handlers, masks, queues, timers, interrupted and restarted calls. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t ticks, order[64], place, depth, deepest;
static sigjmp_buf back;
static void tick(int n) { ticks++; }
static void note(int n, siginfo_t *i, void *c) { order[place++ & 63] = i->si_value.sival_int; }
static void nest(int n) {
    if (++depth > deepest) deepest = depth;
    if (depth < 6) raise(n == SIGUSR1 ? SIGUSR2 : SIGUSR1);
    depth--;
}
static void jump(int n) { siglongjmp(back, n); }
static void nothing(int n) {}
static void set(int n, void (*f)(int), int flags) {
    struct sigaction a = {0};
    a.sa_handler = f;
    a.sa_flags = flags;
    sigaction(n, &a, 0);
}
static void send_later(int n, int ms) {
    if (!fork()) {
        usleep(ms * 1000);
        kill(getppid(), n);
        _exit(0);
    }
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    struct sigaction a = {0};
    sigset_t some, none, old;
    sigemptyset(&none);

    /* real-time signals queue, in order */
    a.sa_sigaction = note;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGRTMIN, &a, 0), sigaction(SIGRTMIN + 1, &a, 0);
    sigemptyset(&some), sigaddset(&some, SIGRTMIN), sigaddset(&some, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &some, &old);
    for (int i = 0; i < 5; i++) {
        union sigval v = {.sival_int = 10 + i};
        sigqueue(getpid(), SIGRTMIN + 1, v);
        v.sival_int = i;
        sigqueue(getpid(), SIGRTMIN, v);
    }
    sigprocmask(SIG_SETMASK, &old, 0);
    /* (which of two delivered at once runs first depends on the kernel's order of frames) */
    int sum = 0, first = 0, second = 10, ordered = 1;
    for (int i = 0; i < place; i++) {
        sum += order[i];
        if (order[i] < 10) ordered &= order[i] == first++;
        else ordered &= order[i] == second++;
    }
    printf("queued %d %d\n", place, sum);

    /* standard ones don't */
    set(SIGUSR1, tick, 0);
    sigemptyset(&some), sigaddset(&some, SIGUSR1);
    sigprocmask(SIG_BLOCK, &some, 0);
    for (int i = 0; i < 5; i++) raise(SIGUSR1);
    sigset_t pending;
    sigpending(&pending);
    printf("pending %d ticks %d\n", sigismember(&pending, SIGUSR1), ticks);
    sigprocmask(SIG_UNBLOCK, &some, 0);
    printf("ticks %d\n", ticks);

    set(SIGUSR1, nest, SA_NODEFER), set(SIGUSR2, nest, SA_NODEFER);
    raise(SIGUSR1);
    printf("depth %d %d\n", depth, deepest);

    /* out of handlers */
    set(SIGSEGV, jump, 0), set(SIGFPE, jump, 0), set(SIGILL, jump, 0), set(SIGTRAP, jump, 0);
    for (int i = 0; i < 3; i++) {
        int n = sigsetjmp(back, 1);
        if (!n) *(volatile int *)(long)(8 * i) = 1;
        printf("caught %d\n", n);
    }
    static char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack}, was;
    sigaltstack(&other, 0);
    set(SIGSEGV, jump, SA_ONSTACK);
    if (!sigsetjmp(back, 1)) ((void (*)(void))16)();
    sigaltstack(0, &was);
    printf("alternate %d %d\n", was.ss_flags, was.ss_sp == stack);

    set(SIGUSR1, tick, SA_RESETHAND);
    raise(SIGUSR1);
    sigaction(SIGUSR1, 0, &a);
    printf("reset %d\n", a.sa_handler == SIG_DFL);

    /* interrupted and restarted calls */
    int ends[2];
    char c;
    pipe(ends);
    set(SIGUSR1, nothing, 0);
    send_later(SIGUSR1, 30);
    printf("read %zd %s\n", read(ends[0], &c, 1), strerror(errno));
    wait(0);
    set(SIGUSR1, nothing, SA_RESTART);
    send_later(SIGUSR1, 30);
    if (!fork()) { usleep(90000); write(ends[1], "z", 1); _exit(0); }
    printf("read %zd %c\n", read(ends[0], &c, 1), c);
    while (wait(0) > 0) ;
    send_later(SIGUSR1, 30);
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    printf("poll %d %s\n", poll(&p, 1, 5000), strerror(errno));
    wait(0);
    send_later(SIGUSR1, 30);
    struct timespec t = {5, 0}, left = {0};
    printf("sleep %d %d\n", nanosleep(&t, &left), left.tv_sec >= 3);
    wait(0);
    send_later(SIGUSR1, 30);
    printf("pause %d\n", pause());
    wait(0);

    /* waiting for signals */
    sigemptyset(&some), sigaddset(&some, SIGUSR1), sigaddset(&some, SIGALRM);
    sigprocmask(SIG_BLOCK, &some, 0);
    send_later(SIGUSR1, 20);
    siginfo_t info;
    int n = sigwaitinfo(&some, &info);
    printf("waited %d %d %d\n", n == SIGUSR1, info.si_code == SI_USER, info.si_pid != getpid());
    wait(0);
    t.tv_sec = 0, t.tv_nsec = 20000000;
    printf("timed %d %d\n", sigtimedwait(&some, &info, &t), errno == EAGAIN);
    send_later(SIGUSR1, 20);
    ticks = 0;
    set(SIGUSR1, tick, 0);
    printf("suspend %d %d\n", sigsuspend(&none), ticks);
    wait(0);
    sigprocmask(SIG_UNBLOCK, &some, 0);

    /* timers */
    set(SIGALRM, tick, 0);
    ticks = 0;
    struct itimerval every = {{0, 3000}, {0, 3000}}, off = {0};
    setitimer(ITIMER_REAL, &every, 0);
    volatile unsigned long work = 0;
    while (ticks < 20) work++;
    setitimer(ITIMER_REAL, &off, &every);
    printf("timer %d\n", ticks >= 20);
    alarm(1);
    printf("alarm %d\n", alarm(0) == 1);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 99};
    place = 0;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    struct itimerspec once = {{0, 0}, {0, 5000000}};
    timer_settime(timer, 0, &once, 0);
    while (!place) pause();
    printf("timer_create %d\n", order[0]);
    timer_delete(timer);

    /* a storm from several processes */
    set(SIGUSR2, tick, SA_RESTART);
    ticks = 0;
    for (int i = 0; i < 4; i++)
        if (!fork()) {
            for (int j = 0; j < 50; j++) kill(getppid(), SIGUSR2);
            _exit(0);
        }
    int ended = 0;
    while (ended < 4) if (wait(0) > 0) ended++;
    printf("storm %d\n", ticks > 0);
    printf("kill %d %d\n", kill(getpid(), 65), errno == EINVAL);
    fflush(stdout);
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
}
