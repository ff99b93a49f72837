/* The same numbers on every machine: integer and floating-point work. */
typedef unsigned long long u64;

static unsigned fib(unsigned n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

static void compute(unsigned *out) {
    u64 h = 14695981039346656037ull;
    for (int i = 0; i < 1000; i++) {
        h = (h ^ (i * 2654435761u)) * 1099511628211ull;
        h += (unsigned)(h >> 32) % (unsigned)(i + 3);
    }
    volatile double d = 0;
    for (int i = 1; i < 200; i++) d += 1.0 / i - (float)i / 3;
    union { double d; u64 u; } bits = {d};
    out[0] = 0x11223344;
    out[1] = (unsigned)h;
    out[2] = (unsigned)(h >> 32);
    out[3] = fib(17);
    out[4] = (unsigned)bits.u;
    out[5] = (unsigned)(bits.u >> 32);
}
