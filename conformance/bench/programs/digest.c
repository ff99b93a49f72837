/* Integer: the compression function of SHA-256 (FIPS 180-4) over a running message. */
#include <stdint.h>
#include <stdio.h>

enum { BLOCKS = 1800000 };
static uint32_t constants[64];

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void compress(uint32_t state[8], const uint32_t block[16]) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++) w[i] = block[i];
    for (int i = 16; i < 64; i++) {
        uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    for (int i = 0; i < 8; i++) v[i] = state[i];
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + constants[i] + w[i];
        uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        v[7] = v[6]; v[6] = v[5]; v[5] = v[4]; v[4] = v[3] + t1;
        v[3] = v[2]; v[2] = v[1]; v[1] = v[0]; v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) state[i] += v[i];
}

int main(void) {
    uint32_t state[8] = {1, 2, 3, 4, 5, 6, 7, 8}, block[16], seed = 12345;
    for (int i = 0; i < 64; i++) constants[i] = seed = seed * 1664525u + 1013904223u;
    for (int n = 0; n < BLOCKS; n++) {
        for (int i = 0; i < 16; i++) block[i] = seed = seed * 1664525u + 1013904223u;
        compress(state, block);
    }
    printf("digest %08x %08x\n", (unsigned)state[0], (unsigned)state[7]);
    return 0;
}
