/* Details of single instructions that programs seldom see, printed: the host says what they are. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static sigjmp_buf back;
static char other_stack[65536];

static void on_signal(int number, siginfo_t *information, void *context) {
    (void)context;
    siglongjmp(back, number << 8 | (information->si_code & 0xff));
}

static void emms(void) {
    struct { uint16_t control, r0, status, r1, tags, r2; uint32_t rest[4]; } environment;
    __asm__ volatile("fninit; fld1; fldpi; emms; fnstenv %0" : "=m"(environment));
    printf("emms: status %04x, tags %04x\n", environment.status, environment.tags);
}

static void cmpxchg(uint64_t expected) {
    uint64_t place = 0x1111111122222222, rax = expected;
    unsigned char equal;
    __asm__ volatile("cmpxchgl %3, %k0; sete %2"
                     : "+r"(place), "+a"(rax), "=r"(equal) : "r"(0x33333333) : "cc");
    printf("cmpxchg: %016llx %016llx %d\n", (unsigned long long)place, (unsigned long long)rax, equal);
}

static void enter(long below) {
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages, 4096, PROT_NONE);
    int signal = sigsetjmp(back, 1);
    if (!signal) {
        char *top = pages + 4096 + below;
        __asm__ volatile("mov %%rsp, %%r12; mov %%rbp, %%r13; mov %0, %%rsp; enter $64, $0;"
                         "mov %%r12, %%rsp; mov %%r13, %%rbp"
                         : : "r"(top) : "r12", "r13", "memory");
    }
    uint64_t pushed;
    memcpy(&pushed, pages + 4096 + below - 8, 8);
    printf("enter %ld: signal %x, pushed %d\n", below, signal, pushed != 0);
    munmap(pages, 8192);
}

static void underflow(const char *what, uint32_t a, uint32_t b, uint32_t control) {
    float left, right;
    volatile float result = 1.0f;
    uint32_t usual = 0x1f80, after = 0;
    memcpy(&left, &a, 4);
    memcpy(&right, &b, 4);
    int signal = sigsetjmp(back, 1);
    if (!signal) {
        __asm__ volatile("ldmxcsr %3; mulss %2, %0; stmxcsr %1" : "+x"(left), "=m"(after) : "x"(right), "m"(control));
        result = left;
    }
    __asm__ volatile("ldmxcsr %0" : : "m"(usual));
    memcpy(&a, (void *)&result, 4);
    printf("%s: signal %x, result %08x, flags %02x\n", what, signal, a, after & 0x3f);
}

int main(void) {
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&stack, 0);
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    sigaction(SIGFPE, &action, 0);
    emms();
    cmpxchg(0x22222222);
    cmpxchg(0x5555555522222222);
    cmpxchg(0x44444444);
    enter(256);
    enter(72);
    enter(64);
    enter(16);
    underflow("exact, masked", 0x00800000, 0x3f000000, 0x1f80);
    underflow("exact, unmasked", 0x00800000, 0x3f000000, 0x1780);
    underflow("inexact, masked", 0x00800001, 0x3f000000, 0x1f80);
    underflow("inexact, unmasked", 0x00800001, 0x3f000000, 0x1780);
    underflow("flushed", 0x00800001, 0x3f000000, 0x9f80);
    underflow("flushed, unmasked", 0x00800001, 0x3f000000, 0x9780);
    return 0;
}
