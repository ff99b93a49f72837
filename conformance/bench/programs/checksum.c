/* Integer, one byte and one table look-up at a time: CRC-32 (IEEE 802.3). */
#include <stdint.h>
#include <stdio.h>

enum { SIZE = 1 << 20, ROUNDS = 400 };
static uint8_t data[SIZE];
static uint32_t table[256];

int main(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t r = i;
        for (int k = 0; k < 8; k++) r = r >> 1 ^ (r & 1 ? 0xedb88320u : 0);
        table[i] = r;
    }
    for (int i = 0; i < SIZE; i++) data[i] = (uint8_t)(i * 31 + (i >> 7));
    uint32_t crc = ~0u;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < SIZE; i++) crc = crc >> 8 ^ table[(crc ^ data[i]) & 255];
    printf("checksum %08x\n", (unsigned)~crc);
    return 0;
}
