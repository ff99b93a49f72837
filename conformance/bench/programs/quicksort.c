/* Branches and memory: quicksort with unpredictable comparisons. */
#include <stdint.h>
#include <stdio.h>

enum { N = 600000, ROUNDS = 25 };
static uint32_t data[N];

static void sort(uint32_t *low, uint32_t *high) {
    while (high - low > 16) {
        uint32_t pivot = low[(high - low) / 2], *i = low, *j = high - 1;
        for (;;) {
            while (*i < pivot) i++;
            while (*j > pivot) j--;
            if (i >= j) break;
            uint32_t t = *i; *i++ = *j; *j-- = t;
        }
        if (j + 1 - low < high - (j + 1)) { sort(low, j + 1); low = j + 1; }
        else { sort(j + 1, high); high = j + 1; }
    }
    for (uint32_t *p = low + 1; p < high; p++) {
        uint32_t x = *p, *q = p;
        for (; q > low && q[-1] > x; q--) *q = q[-1];
        *q = x;
    }
}

int main(void) {
    uint32_t seed = 7, check = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) data[i] = seed = seed * 1664525u + 1013904223u;
        sort(data, data + N);
        for (int i = 1; i < N; i++) check += (data[i - 1] <= data[i]) + (data[i] >> 28);
    }
    printf("quicksort %u\n", (unsigned)check);
    return 0;
}
