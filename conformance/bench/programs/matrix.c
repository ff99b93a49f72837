/* Integer and memory: dense products of integer matrices. */
#include <stdint.h>
#include <stdio.h>

enum { N = 160, ROUNDS = 180 };
static int64_t a[N][N], b[N][N], c[N][N];

int main(void) {
    uint32_t seed = 1;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (int32_t)(seed = seed * 1664525u + 1013904223u) >> 8;
            b[i][j] = (int32_t)(seed = seed * 1664525u + 1013904223u) >> 8;
        }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                int64_t sum = 0;
                for (int k = 0; k < N; k++) sum += a[i][k] * b[k][j];
                c[i][j] = sum;
            }
        a[round % N][0] ^= c[N - 1 - round % N][round % N];
    }
    printf("matrix %lld\n", (long long)(c[3][5] ^ c[N - 1][N - 1]));
    return 0;
}
