/* A Linux program without a C library: the start, writing, the end (riscv: the system call's number is in a7). */
#include <stddef.h>

int main(void);

static long call(long number, long a, long b, long c) {
    register long a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c, a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return a0;
}

void put(const char *text, size_t size) { call(64, 1, (long)text, (long)size); }

__attribute__((used, noreturn)) static void begin(void) {
    call(94, main(), 0, 0);
    __builtin_unreachable();
}

__asm__(".globl _start\n_start:\n.option push\n.option norelax\nla gp, __global_pointer$\n.option pop\n"
        "andi sp, sp, -16\ncall begin\n");
