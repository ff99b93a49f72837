/* Signals that a program causes itself: handlers, masks, alternate stacks, returning and jumping out.
   With an argument, actions have masks. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf out;
static char *page;
static volatile int count;
static int masks;

static void on_usr1(int number) { printf("usr1 %d\n", number == SIGUSR1); count++; }

static void on_nested(int number, siginfo_t *info, void *context) {
    sigset_t now;
    sigprocmask(SIG_BLOCK, 0, &now);
    printf("nested %d code %d pid %d blocked %d %d\n", number, info->si_code, info->si_pid == getpid(),
           sigismember(&now, number), sigismember(&now, SIGUSR1));
    if (number == SIGUSR2 && count++ < 3) raise(SIGUSR1); /* waits until this handler is left */
    printf("nested %d ends\n", number);
    (void)context;
}

static void on_segv(int number, siginfo_t *info, void *context) {
    printf("segv at page %d code %d\n", info->si_addr == page + 5, info->si_code);
    if (count++ == 0) mprotect(page, 4096, PROT_READ | PROT_WRITE); /* the instruction is repeated */
    else siglongjmp(out, number);
    (void)context;
}

static void on_stack(int number, siginfo_t *info, void *context) {
    char here;
    stack_t stack;
    sigaltstack(0, &stack);
    printf("alternate %d %d\n", &here >= (char *)stack.ss_sp && &here < (char *)stack.ss_sp + stack.ss_size,
           stack.ss_flags == SS_ONSTACK);
    siglongjmp(out, 2);
    (void)number, (void)info, (void)context;
}

static void on_ill(int number, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    printf("ill %d at pc %d\n", number, (void *)uc->uc_mcontext.__gregs[0] == info->si_addr);
    uc->uc_mcontext.__gregs[0] += 4; /* step over it */
    uc->uc_mcontext.__gregs[10] = 77;
}

static int overflow(int n) {
    volatile char big[4096];
    big[0] = n;
    return overflow(n + 1) + big[0];
}

static void set(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {0};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    if (number == SIGUSR2 && masks) sigaddset(&action.sa_mask, SIGUSR1);
    sigaction(number, &action, 0);
}

int main(int argc, char **argv) {
    (void)argv;
    masks = argc > 1;
    double x = 0.1;
    signal(SIGUSR1, on_usr1);
    for (int i = 0; i < 3; i++) raise(SIGUSR1), x = x * 1.5 + sqrt(x);
    printf("%d %.17g\n", count, x);

    count = 0;
    set(SIGUSR2, on_nested, 0);
    set(SIGUSR1, on_nested, 0);
    raise(SIGUSR2);

    sigset_t set1, waiting;
    sigemptyset(&set1);
    sigaddset(&set1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set1, 0);
    raise(SIGUSR1);
    sigpending(&waiting);
    printf("pending %d\n", sigismember(&waiting, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &set1, 0);
    puts("unblocked");

    set(SIGUSR1, on_nested, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction old;
    sigaction(SIGUSR1, 0, &old);
    printf("reset %d\n", old.sa_handler == SIG_DFL);

    count = 0;
    page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    set(SIGSEGV, on_segv, SA_NODEFER);
    page[5] = 9;
    printf("written %d\n", page[5]);
    munmap(page, 4096);
    if (!sigsetjmp(out, 1)) page[5] = 1;
    puts("jumped out");

    set(SIGILL, on_ill, 0);
    register long a0 asm("a0") = 5;
    asm volatile(".option push\n.option norvc\n.4byte 0xffffffff\n.option pop" : "+r"(a0));
    printf("a0 %ld\n", a0);

    stack_t stack = {malloc(65536), 0, 65536};
    printf("sigaltstack %d\n", sigaltstack(&stack, 0));
    set(SIGSEGV, on_stack, SA_ONSTACK);
    if (!sigsetjmp(out, 1)) overflow(0);
    puts("alive");
    printf("bad %d %d\n", sigaction(SIGKILL, &old, 0), errno == EINVAL);
    fflush(stdout);

    signal(SIGSEGV, SIG_DFL);
    *(volatile int *)page = 1;
}
