/* A small C library for benchmark programs on RISC-V without one: `printf` of numbers and text, memory, and on RV32
 * the 64-bit divisions that the compiler calls. `put` is the environment's: user.c or system.c.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

void put(const char *text, size_t size);

void *memcpy(void *to, const void *from, size_t size) {
    char *t = to;
    const char *f = from;
    if ((((uintptr_t)t | (uintptr_t)f) & (sizeof(long) - 1)) == 0)
        for (; size >= 8 * sizeof(long); size -= 8 * sizeof(long)) {
            const long *s = (const long *)f;
            long a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], g = s[5], h = s[6], i = s[7];
            long *p = (long *)t;
            p[0] = a, p[1] = b, p[2] = c, p[3] = d, p[4] = e, p[5] = g, p[6] = h, p[7] = i;
            t += 8 * sizeof(long);
            f += 8 * sizeof(long);
        }
    while (size--) *t++ = *f++;
    return to;
}

void *memset(void *to, int value, size_t size) {
    char *t = to;
    unsigned long word = (unsigned char)value * (~0ul / 255);
    for (; size && ((uintptr_t)t & (sizeof(long) - 1)); size--) *t++ = (char)value;
    for (; size >= 4 * sizeof(long); size -= 4 * sizeof(long), t += 4 * sizeof(long)) {
        unsigned long *p = (unsigned long *)t;
        p[0] = p[1] = p[2] = p[3] = word;
    }
    while (size--) *t++ = (char)value;
    return to;
}

size_t strlen(const char *text) {
    size_t size = 0;
    while (text[size]) size++;
    return size;
}

int strcmp(const char *a, const char *b) {
    for (; *a && *a == *b; a++, b++) {}
    return (unsigned char)*a - (unsigned char)*b;
}

#if __riscv_xlen == 32
static uint64_t divide(uint64_t a, uint64_t b, uint64_t *rest) {
    if (!(a >> 32) && !(b >> 32)) {
        *rest = (uint32_t)a % (uint32_t)b;
        return (uint32_t)a / (uint32_t)b;
    }
    uint64_t quotient = 0, r = 0;
    for (int i = 63; i >= 0; i--) {
        uint64_t top = r >> 63;
        r = r << 1 | (a >> i & 1);
        if (top || r >= b) {
            r -= b;
            quotient |= 1ull << i;
        }
    }
    *rest = r;
    return quotient;
}

uint64_t __udivdi3(uint64_t a, uint64_t b) { uint64_t r; return divide(a, b, &r); }
uint64_t __umoddi3(uint64_t a, uint64_t b) { uint64_t r; divide(a, b, &r); return r; }
int64_t __divdi3(int64_t a, int64_t b) {
    uint64_t r, q = divide(a < 0 ? -(uint64_t)a : a, b < 0 ? -(uint64_t)b : b, &r);
    return (a < 0) != (b < 0) ? -q : q;
}
int64_t __moddi3(int64_t a, int64_t b) {
    uint64_t r;
    divide(a < 0 ? -(uint64_t)a : a, b < 0 ? -(uint64_t)b : b, &r);
    return a < 0 ? -r : r;
}
#endif

static char line[256];
static size_t length;

static void add(char c) {
    line[length++] = c;
    if (c == '\n' || length == sizeof line) {
        put(line, length);
        length = 0;
    }
}

static void number(uint64_t value, unsigned base, int width, char fill) {
    char digits[32];
    int n = 0;
    do digits[n++] = "0123456789abcdef"[value % base];
    while (value /= base);
    for (; width > n; width--) add(fill);
    while (n) add(digits[--n]);
}

/* Digits one after the other, the rest cut off: machines are compared with each other, not with a libc. */
static void fraction(double value, int digits) {
    if (value < 0) add('-'), value = -value;
    int32_t whole = (int32_t)value;
    number(whole, 10, 0, ' ');
    add('.');
    for (value -= whole; digits--; value -= whole) {
        value *= 10;
        whole = (int32_t)value;
        add('0' + whole);
    }
}

int printf(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    for (const char *f = format; *f; f++) {
        if (*f != '%') {
            add(*f);
            continue;
        }
        char fill = ' ';
        int width = 0, digits = 6, longs = 0;
        if (*++f == '0') fill = *f++;
        for (; *f >= '0' && *f <= '9'; f++) width = 10 * width + *f - '0';
        if (*f == '.')
            for (digits = 0, f++; *f >= '0' && *f <= '9'; f++) digits = 10 * digits + *f - '0';
        for (; *f == 'l' || *f == 'z'; f++) longs++;
        if (*f == 'f') fraction(va_arg(rest, double), digits);
        else if (*f == 's') for (const char *s = va_arg(rest, const char *); *s; s++) add(*s);
        else if (*f == 'c') add((char)va_arg(rest, int));
        else if (*f == '%') add('%');
        else if (*f == 'd') {
            int64_t value = longs > 1 ? va_arg(rest, long long) : longs ? va_arg(rest, long) : va_arg(rest, int);
            if (value < 0) add('-');
            number(value < 0 ? -(uint64_t)value : value, 10, width, fill);
        } else {
            uint64_t value = longs > 1 ? va_arg(rest, unsigned long long)
                             : longs   ? va_arg(rest, unsigned long) : va_arg(rest, unsigned);
            number(value, *f == 'x' ? 16 : 10, width, fill);
        }
    }
    va_end(rest);
    return 0;
}
