/* Integer, floating-point, memory, branchy, recursive and printf-heavy work; argument: which. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t seed = 12345;
static uint32_t next(void) { return seed = seed * 1664525u + 1013904223u; }

static void integer(void) {
    uint64_t h = 1469598103934665603ull;
    int64_t s = 0;
    for (int i = 1; i < 200000; i++) {
        h = (h ^ next()) * 1099511628211ull;
        s += (int64_t)(h >> 3) / (int32_t)(next() | 1) - (int64_t)(h % (i * 7u));
        s ^= (int32_t)next() >> (i & 31);
    }
    printf("%llu %lld\n", (unsigned long long)h, (long long)s);
}

static void floating(void) {
    double x = 0.5, sum = 0;
    float f = 1;
    for (int i = 1; i < 50000; i++) {
        x = 3.9 * x * (1 - x);
        sum += sin(x) * exp(-x) / sqrt(i) + fma(x, i, 1e-9);
        f = f * 1.0001f + (float)x;
        if (f > 1e30f) f = 1e-30f;
    }
    printf("%.17g %.17g %.9g\n", x, sum, f);
    printf("%g %g %g %d %ld\n", 1 / 0.0, nan(""), -0.0, (int)-2.7, lround(2.5));
    printf("%a %a\n", 0x1p-1074, ldexp(1, -1030) * 3);
}

static int compare(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void memory(void) {
    enum { N = 3000 };
    char **words = malloc(N * sizeof *words);
    for (int i = 0; i < N; i++) {
        words[i] = malloc(20);
        snprintf(words[i], 20, "%08x", next());
    }
    qsort(words, N, sizeof *words, compare);
    unsigned sum = 0;
    for (int i = 0; i < N; i++) sum = sum * 31 + words[i][i % 8];
    char *big = calloc(1, 1 << 20);
    memmove(big + 3, words[0], 9);
    memcpy(big + 70001, big, 65536);
    printf("%s %s %u %s %zu\n", words[0], words[N - 1], sum, big + 70004, strlen(big + 3));
    for (int i = 0; i < N; i++) free(words[i]);
    free(big);
    free(words);
}

static void branchy(void) {
    int counts[7] = {0};
    for (int i = 0; i < 300000; i++) {
        switch (next() >> 29) {
        case 0: counts[0]++; break;
        case 1: counts[1] += i & 3; break;
        case 2: if (i % 3) counts[2]++; else counts[3]--; break;
        case 3: counts[4] ^= i; break;
        case 5: counts[5] += counts[0] > counts[1] ? 1 : -1; break;
        default: counts[6] += i > 1000 && counts[6] < 5000;
        }
    }
    for (int i = 0; i < 7; i++) printf("%d ", counts[i]);
    putchar('\n');
}

static int ackermann(int m, int n) { return !m ? n + 1 : ackermann(m - 1, n ? ackermann(m, n - 1) : 1); }

static void recursive(void) { printf("%d %d\n", ackermann(2, 300), ackermann(3, 6)); }

static void printing(void) {
    for (int i = 0; i < 2000; i++)
        printf("%5d|%-8x|%+.3e|%s|%c|%08.3f|%lld\n", i, i * 77, i / 3.0, i & 1 ? "odd" : "even", 'a' + i % 26,
               sqrt(i), (long long)i * i * i * i);
}

int main(int argc, char **argv) {
    struct { const char *name; void (*work)(void); } works[] = {
        {"integer", integer}, {"floating", floating}, {"memory", memory},
        {"branchy", branchy}, {"recursive", recursive}, {"printing", printing},
    };
    for (unsigned i = 0; i < sizeof works / sizeof *works; i++)
        if (argc < 2 || !strcmp(argv[1], works[i].name)) works[i].work();
    return 0;
}
