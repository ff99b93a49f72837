#include "env.h"
#define V 1
#define R 2
#define W 4
#define X 8
#define U 16
#define A 64
#define D 128
#if __riscv_xlen == 64
#define TOP 2
#else
#define TOP 0x200
#endif
// the table of the lowest 4 KiB pages: entry n for address n << 12
    .macro map n, label, flags
    la t0, \label
    srli t0, t0, 12
    slli t0, t0, 10
    li t1, \flags
    or t0, t0, t1
    la t1, low
    li t2, \n * WORD
    add t1, t1, t2
    S t0, (t1)
    sfence.vma
    .endm
    .macro link table, n, to, flags
    la t0, \to
    srli t0, t0, 12
    slli t0, t0, 10
    ori t0, t0, \flags
    la t1, \table
    li t2, \n * WORD
    add t1, t1, t2
    S t0, (t1)
    .endm
    .macro as mode
    li t6, 0x1800
    csrc mstatus, t6
    li t6, 1 << 17 | \mode << 11
    csrs mstatus, t6
    .endm
    .macro own
    li t6, 1 << 17
    csrc mstatus, t6
    .endm
    begin
#if __riscv_xlen == 64
    link root, 0, middle, V
    link middle, 0, low, V
    li t0, 0x80000 << 10 | V|R|W|X|A|D     # the program itself, a gigapage
    la t1, root
    S t0, TOP*WORD(t1)
    la t0, root
    srli t0, t0, 12
    li t1, 8
    slli t1, t1, 60
    or t0, t0, t1
    csrw satp, t0
    mv s10, t0
    link root48, 0, root, V
#else
    link root, 0, low, V
    li t0, 0x80000 << 10 | V|R|W|X|A|D     # the program itself, a megapage
    la t1, root
    li t2, TOP*WORD
    add t1, t1, t2
    S t0, (t1)
    la t0, root
    srli t0, t0, 12
    li t1, 1
    slli t1, t1, 31
    or t0, t0, t1
    csrw satp, t0
    mv s10, t0
#endif
    csrr t1, satp
    same t1, s10
    sfence.vma
    map 16, one, V|R|W|U|A|D
    map 17, two, V|R|W|U|A|D
    la t0, one
    li t1, 0x11223344
    sw t1, (t0)
    li t1, 0x55667788
    sw t1, 0x7c(t0)
    # 1: through an alias
    li a0, 0x10000
    as 0
    works lw a1, (a0)
    own
    check a1, 0x11223344
    # stores show in physical memory
    li a1, 77
    as 0
    works sw a1, 8(a0)
    own
    la t0, one
    lw a2, 8(t0)
    check a2, 77
    # misaligned over both pages
    li a0, 0x10ffd
    li a1, 0x12345678
    as 0
    works sw a1, (a0)
    works lw a2, (a0)
    own
    check a2, 0x12345678
    la t0, two
    lb a2, (t0)
    check a2, 0x12
    # the second page is missing: mtval is there
    li a0, 0x11ffd
    li a1, -1
    as 0
    traps 15, sw a1, (a0)
    traps 13, lw a1, (a0)
    own
    check s4, 0x12000
    la t0, two
    # the first page is missing
    li a0, 0xfffe
    as 0
    traps 13, lw a1, (a0)
    own
    check s4, 0xfffe
    as 0
    traps 15, sw a1, (a0)
    own
    check s4, 0xfffe
    # accessed and dirty
    map 16, one, V|R|W|U|A
    li a0, 0x10010
    as 0
    works lw a1, (a0)
    traps 15, sw a1, (a0)
    own
    check s4, 0x10010
    as 0
    traps 15, amoadd.w a1, a1, (a0)
    own
    map 16, one, V|R|W|U|D
    as 0
    traps 13, lw a1, (a0)
    own
    # read-only: AMOs report stores, LR loads
    map 16, one, V|R|U|A|D
    as 0
    works lw a1, (a0)
    works lr.w a1, (a0)
    traps 15, amoor.w a1, zero, (a0)
    traps 15, sc.w a1, a1, (a0)
    own
    map 16, one, 0
    as 0
    traps 13, lr.w a1, (a0)
    traps 15, amoor.w a1, zero, (a0)
    traps 13, lw zero, (a0)
    own
    # W without R; execute only with MXR
    map 16, one, V|W|U|A|D
    as 0
    traps 15, sw a1, (a0)
    own
    map 16, one, V|X|U|A|D
    as 0
    traps 13, lw a1, (a0)
    li t0, 1 << 19
    csrs mstatus, t0
    works lw a1, (a0)
    own
    li t0, 1 << 19
    csrc mstatus, t0
    # SUM
    map 16, one, V|R|W|U|A|D
    as 1
    traps 13, lw a1, (a0)
    as 1
    traps 15, sw a1, (a0)
    own
    li t0, 1 << 18
    csrs mstatus, t0
    as 1
    works lw a1, (a0)
    works sw a1, (a0)
    own
    li t0, 1 << 18
    csrc mstatus, t0
    map 16, one, V|R|W|A|D
    as 0
    traps 13, lw a1, (a0)
    as 1
    works lw a1, (a0)
    own
    # without V; pointer at the last level
    map 16, one, V
    as 0
    traps 13, lw a1, (a0)
    own
    # a leaf where nothing is
    map 16, one, V|R|W|U|A|D
    la t1, low
    li t2, 16*WORD
    add t1, t1, t2
#if __riscv_xlen == 64
    li t0, 0x123456789 << 10 | V|R|W|U|A|D
#else
    li t0, 0x300000 << 10 | V|R|W|U|A|D      # above 4 GiB: no alias of what is below
#endif
    S t0, (t1)
    sfence.vma
    as 0
    traps 5, lw a1, (a0)
    traps 7, sw a1, (a0)
    own
    check s4, 0x10010
#if __riscv_xlen == 32
    la t0, one
    srli t0, t0, 12
    li t2, 0x100000
    or t0, t0, t2
    slli t0, t0, 10
    ori t0, t0, V|R|W|U|A|D
    S t0, (t1)
    sfence.vma
    as 0
    traps 5, lw a1, (a0)
    own
#endif
    # reserved bits, non-canonical addresses, misaligned superpage
#if __riscv_xlen == 64
    li t0, 1 << 54 | V|R|W|U|A|D
    S t0, (t1)
    sfence.vma
    as 0
    traps 13, lw a1, (a0)
    own
    map 16, one, V|R|W|U|A|D
    li a2, 1 << 39 | 0x10000
    as 0
    traps 13, lw a1, (a2)
    own
    same s4, a2
    li t0, 0x80001 << 10 | V|R|W|U|A|D
    la t1, root
    S t0, 8(t1)
    li a2, 1 << 30
    as 0
    traps 13, lw a1, (a2)
    own
    # Sv48
    la t0, root48
    srli t0, t0, 12
    li t1, 9
    slli t1, t1, 60
    or t0, t0, t1
    csrw satp, t0
    sfence.vma
    as 0
    works lw a1, (a0)
    li a2, 1 << 39 | 0x10000
    traps 13, lw a1, (a2)
    own
    csrw satp, s10
    sfence.vma
#else
    la t1, root
    li t0, 0x80001 << 10 | V|R|W|U|A|D
    S t0, 4(t1)
    li a2, 1 << 22
    as 0
    traps 13, lw a1, (a2)
    own
#endif
    # user code at an alias
    map 18, code, V|R|X|U|A|D
    li a0, 0x12000
    enter 0, a0
    check s2, 8
    check a3, 5
    li t0, 0x12004
    same s3, t0
    # stale code: another alias writes it
    la t0, code
    la t2, other
    lw t1, (t2)
    sw t1, (t0)
    fence.i
    enter 0, a0
    check a3, 6
    # the same virtual address, another page
    map 18, code2, V|R|X|U|A|D
    enter 0, a0
    check s2, 8
    check a3, 9
    # user code in a page of the supervisor's and the other way round
    enter 1, a0
    check s2, 12
    check s4, 0x12000
    map 18, code2, V|R|X|A|D
    enter 0, a0
    check s2, 12
    enter 1, a0
    check s2, 9
    map 18, code2, V|R|U|A|D
    enter 0, a0
    check s2, 12
    # an instruction over two pages, the second of them missing, then there
    map 18, code, V|R|X|U|A|D
    li a0, 0x12ffe
    enter 0, a0
    check s2, 12
    check s4, 0x13000
    check s3, 0x12ffe
    map 19, tail2, V|R|X|U|A|D
    enter 0, a0
    check s2, 8
    check a3, 0x123
    check s3, 0x13002
    # another second half
    map 19, tail3, V|R|X|U|A|D
    enter 0, a0
    check a3, 0x456
    # jumps into a missing page: at the target
    map 20, 0, 0
    li a0, 0x12008
    li a1, 0x14000
    li ra, 0
    enter 0, a0
    check s2, 12
    check s3, 0x14000
    check s4, 0x14000
    check ra, 0x1200c
    # delegated: the supervisor handles a user's fault, and returns
    li t0, 1 << 13 | 1 << 15
    csrw medeleg, t0
    la t0, supervisor
    csrw stvec, t0
    map 16, one, 0
    map 18, code, V|R|X|U|A|D
    li a0, 0x1200c
    li a1, 0x10000
    li a5, 0
    enter 0, a0
    check s2, 8
    check a3, 0x77
    check a5, 13
    check a6, 0x10000
    check a7, 0x1200c
    csrr t0, sstatus
    andi t0, t0, 0x100
    check t0, 0
    csrw medeleg, zero
    # two roots, the same address
    map 16, one, V|R|W|U|A|D
    la t0, one
    li t1, 111
    sw t1, (t0)
    la t0, two
    li t1, 222
    sw t1, (t0)
    link second, 0, low2, V
    la t0, two
    srli t0, t0, 12
    slli t0, t0, 10
    ori t0, t0, V|R|W|U|A|D
    la t1, low2
    S t0, 16*WORD(t1)
#if __riscv_xlen == 64
    link second, 0, middle2, V
    link middle2, 0, low2, V
#endif
    la t0, second
    srli t0, t0, 12
    srli t1, s10, 12
    la t1, root
    srli t1, t1, 12
    xor t0, t0, t1
    xor t0, t0, s10
    li a0, 0x10000
    as 0
    lw a1, (a0)
    csrw satp, t0
    sfence.vma
    lw a2, (a0)
    csrw satp, s10
    sfence.vma
    lw a3, (a0)
    own
    check a1, 111
    check a2, 222
    check a3, 111
    # tables in memory that PMP denies
    la t0, low
    srli t0, t0, 2
    ori t0, t0, 0x1ff            # NAPOT, 4 KiB
    csrw pmpaddr0, t0
    li t0, -1
    csrw pmpaddr1, t0
    li t0, 0x1f18
    csrw pmpcfg0, t0
    sfence.vma
    as 0
    traps 5, lw a1, (a0)
    traps 7, sw a1, (a0)
    own
    li a0, 0x12000
    enter 0, a0
    check s2, 1
    finish

    .text
    .balign 4
supervisor:
    csrr a5, scause
    csrr a6, stval
    csrr a7, sepc
    la t0, one
    srli t0, t0, 12
    slli t0, t0, 10
    ori t0, t0, V|R|W|U|A|D
    la t1, low
    S t0, 16*WORD(t1)
    sfence.vma
    li t0, 0x77
    la t1, one
    sw t0, (t1)
    sret

    .balign 4096
    .option push
    .option norvc
code:
    li a3, 5
    ecall
    jalr a1
    lw a3, (a1)
    ecall
other:
    li a3, 6
    .space 4096 - 2 - (. - code)
    .half 0x0693                 # the lower half of li a3, ...; the upper one is on the next page
    .balign 4096
code2:
    li a3, 9
    ecall
    .balign 4096
tail2:
    .half 0x1230                 # ..., 0x123
    ecall
    .balign 4096
tail3:
    .half 0x4560
    ecall
    .option pop
    .data
    .balign 4096
one: .space 4096
two: .space 4096
low: .space 4096
low2: .space 4096
middle: .space 4096
middle2: .space 4096
root: .space 4096
second: .space 4096
root48: .space 4096
