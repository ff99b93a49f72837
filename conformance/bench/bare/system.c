/* A program alone on QEMU's virt board, in supervisor mode with paging on: every page of RAM has an entry of its own
 * (RISC-V privileged architecture: Sv39 and Sv32, 4 KiB pages), the devices a large page.
 */
#include <stddef.h>
#include <stdint.h>

enum { RAM = 64 << 20, PAGE = 4096, ENTRIES = PAGE / sizeof(uintptr_t), TABLES = RAM / PAGE / ENTRIES };
enum { LEAF = 0xcf, BRANCH = 1 }; /* valid, readable, writable, executable, accessed, dirty */
static const uintptr_t BASE = 0x80000000, SERIAL = 0x10000000, FINISHER = 0x100000;

static uintptr_t root[ENTRIES] __attribute__((aligned(4096)));
static uintptr_t middle[ENTRIES] __attribute__((aligned(4096)));
static uintptr_t leaves[TABLES][ENTRIES] __attribute__((aligned(4096)));

int main(void);

static uintptr_t entry(uintptr_t address, uintptr_t flags) { return address / PAGE << 10 | flags; }

void put(const char *text, size_t size) {
    while (size--) *(volatile uint8_t *)SERIAL = *text++;
}

void end(int status) {
    *(volatile uint32_t *)FINISHER = status ? (uint32_t)status << 16 | 0x3333 : 0x5555;
    for (;;) {}
}

void trapped(void) { end(99); }

/* What satp is to hold. */
uintptr_t prepare(void) {
    uintptr_t *tables = root;
    root[0] = entry(0, LEAF); /* Sv39: devices in the first GiB */
    if (sizeof(uintptr_t) == 8) {
        root[BASE >> 30] = entry((uintptr_t)middle, BRANCH);
        tables = middle;
    } else {
        root[SERIAL >> 22] = entry(SERIAL >> 22 << 22, LEAF);
        tables += BASE >> 22;
    }
    for (int i = 0; i < TABLES; i++) {
        tables[i] = entry((uintptr_t)leaves[i], BRANCH);
        for (int k = 0; k < (int)ENTRIES; k++)
            leaves[i][k] = entry(BASE + ((uintptr_t)i * ENTRIES + k) * PAGE, LEAF);
    }
    return (uintptr_t)root / PAGE | (sizeof(uintptr_t) == 8 ? (uintptr_t)8 << 60 : (uintptr_t)1 << 31);
}

void begin(void) { end(main()); }

__asm__(".section .begin,\"ax\"\n.globl _start\n_start:\n"
        "la t0, fail\ncsrw mtvec, t0\ncsrw stvec, t0\n"
        "li t0, -1\ncsrw pmpaddr0, t0\nli t0, 0x1f\ncsrw pmpcfg0, t0\n" /* all of memory to supervisor mode */
        ".option push\n.option norelax\nla gp, __global_pointer$\n.option pop\nla sp, stack_end\n"
        "call prepare\ncsrw satp, a0\nsfence.vma\n"
        "li t0, 0x6000\ncsrs mstatus, t0\n" /* the floating-point unit is on */
        "li t0, 0x1800\ncsrc mstatus, t0\nli t0, 0x800\ncsrs mstatus, t0\n" /* mret leads to supervisor mode */
        "la t0, begin\ncsrw mepc, t0\nmret\n"
        ".balign 4\nfail:\ncsrw satp, zero\nla sp, stack_end\ncall trapped\n.text\n");
