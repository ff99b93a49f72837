/* Indirect branches: a little stack machine interpreted by a switch and by a table of functions. */
#include <stdint.h>
#include <stdio.h>

enum { PUSH, ADD, SUB, MUL, XOR, DUP, SWAP, LOOP, CALL, HALT };
static int64_t stack[64], *top = stack;
static const uint8_t program[] = {PUSH, 3, DUP, MUL, PUSH, 7, ADD, CALL, 0, SWAP, XOR, DUP, CALL, 1, ADD, PUSH, 1, SUB, CALL, 2, LOOP, 0, HALT};

static void shuffle(void) { top[-1] = top[-1] * 5 + 1; }
static void fold(void) { top[-1] ^= top[-1] >> 11; }
static void mask(void) { top[-1] &= 0xffffffff; }
static void (*const functions[])(void) = {shuffle, fold, mask};

int main(void) {
    int64_t count = 3500000, check = 0;
    *top++ = 1; *top++ = 2;
    for (int pc = 0;;) {
        switch (program[pc++]) {
        case PUSH: *top++ = program[pc++]; break;
        case ADD: top--; top[-1] += top[0]; break;
        case SUB: top--; top[-1] -= top[0]; break;
        case MUL: top--; top[-1] *= top[0]; break;
        case XOR: top--; top[-1] ^= top[0]; break;
        case DUP: top[0] = top[-1]; top++; break;
        case SWAP: { int64_t t = top[-1]; top[-1] = top[-2]; top[-2] = t; break; }
        case CALL: functions[program[pc++]](); break;
        case LOOP:
            check ^= top[-1] + count;
            top = stack + 2;
            if (--count) pc = program[pc]; else pc++;
            break;
        case HALT:
            printf("machine %lld\n", (long long)check);
            return 0;
        }
    }
}
