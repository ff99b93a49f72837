/* A kernel in miniature: hart 0 maps high memory, both harts go on there in supervisor mode; a timer ticks. */
typedef unsigned long u64;
struct cell { long count; char name[8]; };
volatile struct cell cells[2];
volatile long ticks;
long history[64];
static u64 root[512] __attribute__((aligned(4096)));

static void put(char c) { *(volatile char *)(0x10000000UL) = c; }

__attribute__((noinline)) long mix(long a, long b) { return a * 31 + b; }

__attribute__((noinline)) long work(long hart, long n) {
    long sum = 0;
    for (long i = 0; i < n; i++) {
        sum = mix(sum, i + hart);
        cells[hart].count++;
    }
    return sum;
}

void tick(void) { ticks++; }

void kernel(long hart) {
    cells[hart].name[0] = 'a' + hart;
    for (long round = 0;; round++) {
        long sum = work(hart, 10);
        if (hart == 0)
            history[round & 63] = sum + round;
        if (hart == 0 && round % 5000 == 0)
            put('.');
    }
}

/* In machine mode, at physical addresses: gigabytes as they are, and 0xffffffff80000000 like 0x80000000. */
__attribute__((section(".boot"))) void map(u64 *table) {
    for (u64 i = 0; i < 4; i++)
        table[i] = (i << 28) | 0xcf;
    table[510] = (2UL << 28) | 0xcf;
}
