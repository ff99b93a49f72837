/* Calls and returns: naive Fibonacci and Ackermann. */
#include <stdio.h>

static unsigned __attribute__((noinline)) fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
static unsigned __attribute__((noinline)) ackermann(unsigned m, unsigned n) {
    if (m == 0) return n + 1;
    return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

int main(void) {
    printf("calls %u %u\n", fibonacci(39), ackermann(2, 2200) + ackermann(3, 8));
    return 0;
}
