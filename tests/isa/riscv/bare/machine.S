#include "env.h"
    begin
    # --- registers that may not exist: nothing but an illegal instruction, or a value
    .macro probe n
    la s1, 98f
    csrr a0, \n
    csrw \n, zero
98:
    .endm
    probe 0x744          # mnstatus
    check s2, 2
    la t6, 98b
    addi t6, t6, -8
    same s3, t6
    probe 0x747
    probe 0x5a8
    probe 0x14d
    traps 2, csrr a0, 0x7b0
    works csrw 0x7a0, zero
    works csrr a0, 0x7a0
    check a0, 0
    works csrr a0, 0x7a1
    check a0, 0
    works csrr a0, 0x7a4
    check a0, 1
    works csrr a0, mvendorid
    works csrr a0, marchid
    works csrr a0, mimpid
    works csrr a0, mhartid
    check a0, 0
    traps 2, csrw mhartid, a0
    traps 2, csrw cycle, zero
    traps 2, csrrs a0, cycle, a0
    works csrr a0, cycle
    works csrr a0, 0xf15
    works csrr a0, 0xb1f
    works csrr a0, 0xc1f
    works csrr a0, 0x33f
    works csrw 0xb03, a0
    # misa cannot change
    csrr a0, misa
    csrci misa, 4
    csrr a1, misa
    same a0, a1
    srli a0, a0, __riscv_xlen - 2
    check a0, __riscv_xlen / 32
    # --- memory protection's registers
    li t0, -1
    csrw pmpaddr15, t0
    csrr a0, pmpaddr15
#if __riscv_xlen == 64
    check a0, (1 << 54) - 1
    traps 2, csrr a0, 0x3a1
    works csrr a0, 0x3a2
    works csrr a0, 0x3ae
#else
    check a0, -1
    works csrr a0, 0x3a3
#endif
    works csrw 0x3ef, t0
    csrr a0, 0x3ef
    check a0, 0
    csrw pmpaddr15, zero
    # --- counters
    li t0, -1
    csrw minstret, t0
    csrr a0, minstret
    check a0, -1
    csrr a0, minstret
    sltiu a1, a0, 64
    check a1, 1
    csrwi mcountinhibit, 5
    csrr a0, minstret
    csrr a1, mcycle
    nop
    csrr a2, minstret
    csrr a3, mcycle
    same a0, a2
    same a1, a3
    csrwi mcountinhibit, 0
#if __riscv_xlen == 32
    li t0, -1
    csrwi mcycleh, 3
    csrw mcycle, t0
    nop
    csrr a0, mcycleh
    check a0, 4
#endif
    rdtime a0
    nop
    rdtime a1
    sltu a2, a0, a1
    check a2, 1
    csrwi mcounteren, 0
    la a0, user_time
    enter 0, a0
    check s2, 2
    csrwi mcounteren, 2
    csrwi scounteren, 2
    enter 0, a0
    check s2, 8
    # --- illegal instructions
    traps 2, .word 0
    check s4, 0
    traps 2, .word 0xffffffff
    traps 2, .word 0x7ffffff3
    la s1, 1f
    .option push
    .option arch, +c
    .balign 4
2:  .half 0
    .half 1
1:  .option pop
    check s2, 2
    check s4, 0
    la t0, 2b
    same s3, t0
#if __riscv_xlen == 32
    traps 2, .word 0x02051513   # slli a0, a0, 32
    traps 2, .word 0x0000b503   # ld
#endif
    # --- breakpoints
    traps 3, ebreak
    traps 11, ecall
    check s4, 0
    # --- addresses where nothing is
    li a0, 0x40000000
    li a1, 5
    traps 5, lw a1, (a0)
    same s4, a0
    check a1, 5
    traps 7, sw a1, (a0)
    traps 7, amoadd.w a1, a1, (a0)
    traps 5, lr.w a1, (a0)
    check a1, 5
    la s1, 1f
    jalr ra, a0
1:  check s2, 1
    same s3, a0
    same s4, a0
    la t0, 1b
    same ra, t0
#if __riscv_xlen == 64
    li t0, 1 << 63
    la a0, fail
    xor a0, a0, t0
    la s1, 1f
    jalr ra, a0
1:  check s2, 1
    same s3, a0
    traps 5, lb a1, (a0)
    same s4, a0
    same s4, a0
#endif
    # at the end of memory: the half that is missing
    la a0, stack_top
    li a0, 0x88000000 - 2
    traps 5, lw a1, (a0)
    traps 7, sw a1, (a0)
    # --- misaligned
    la a0, word
    works lw a1, 1(a0)
    check a1, 0x05040302
    traps 4, lr.w a1, (a2)
    addi a2, a0, 1
    traps 4, lr.w a1, (a2)
    same s4, a2
    traps 6, amoswap.w a1, a1, (a2)
    traps 6, sc.w a1, a1, (a2)
    # --- interrupts
    csrci mstatus, 8
    la s6, vectored + 1
    csrr s7, mtvec
    csrw mtvec, s6
    csrr t0, mtvec
    same t0, s6
    li t0, 0x222
    csrw mie, t0
    csrr t0, mie
    check t0, 0x222
    csrwi mip, 2
    csrr t0, mip
    check t0, 2
    # taken at once when enabled by mstatus, by mie, by mip, by mret
    la s1, 1f
    li s2, 0
    csrsi mstatus, 8
    j fail
1:  la t0, 1b - 4
    check s2, 1
    csrr t0, mcause
    li t1, 1 << (__riscv_xlen - 1) | 1
    same t0, t1
    csrr t0, mstatus
    andi t0, t0, 0x88
    check t0, 0x80
    la s1, 1f
    csrwi mip, 0
    csrsi mstatus, 8
    li t0, 0x20
    csrs mip, t0
    j fail
1:  check s2, 5
    csrw mip, zero
    csrw mie, zero
    li t0, 0x200
    csrw mip, t0
    csrsi mstatus, 8
    nop
    la s1, 1f
    li t0, 0x200
    csrs mie, t0
    j fail
1:  check s2, 9
    li t0, 0x222
    csrw mip, t0
    csrw mie, t0
    li t0, 0x1880
    csrs mstatus, t0
    la t0, fail
    csrw mepc, t0
    la s1, 1f
    mret
1:  check s2, 9              # the external one first
    csrr t0, mepc
    la t1, fail
    same t0, t1
    # synchronous traps go to the base
    la s1, 1f
    ecall
1:  check s2, 100
    csrw mip, zero
    csrw mtvec, s7
    # delegated: taken in supervisor mode, never in machine mode
    csrwi mideleg, 2
    csrwi mie, 2
    csrwi mip, 2
    csrsi mstatus, 8
    nop
    csrci mstatus, 8
    la t0, in_supervisor
    csrw stvec, t0
    csrw scause, zero
    la a0, idle
    li a1, 0
    enter 0, a0
    check s2, 9
    li t1, 1 << (__riscv_xlen - 1) | 1
    same a1, t1
    csrr t0, sepc
    same t0, a0
    csrr t0, sstatus
    andi t0, t0, 0x100
    check t0, 0
    # sip and sie
    csrr t0, sip
    check t0, 2
    csrci sip, 2
    csrr t0, mip
    check t0, 0
    csrsi sip, 2
    csrr t0, mip
    check t0, 2
    # wfi with something pending goes on, even where it is masked
    works wfi
    la a0, waits
    csrci mstatus, 2
    enter 1, a0
    check s2, 9
    check a1, 42
    li t0, 1 << 21               # TW
    csrs mstatus, t0
    enter 1, a0
    check s2, 2
    csrc mstatus, t0
    csrwi mip, 0
    # --- TVM, TSR
    la a0, fence
    enter 1, a0
    check s2, 9
    li t0, 1 << 20
    csrs mstatus, t0
    enter 1, a0
    check s2, 2
    la t0, fence
    same s3, t0
    la a0, root
    enter 1, a0
    check s2, 2
    li t0, 1 << 20
    csrc mstatus, t0
    enter 1, a0
    check s2, 9
    la t0, goes_back
    csrw sepc, t0
    la a0, returns
    li t0, 0x100
    csrs mstatus, t0
    enter 1, a0
    check s2, 9
    li t0, 1 << 22
    csrs mstatus, t0
    enter 1, a0
    check s2, 2
    enter 0, a0
    check s2, 2
    # --- memory protection: user mode without permission
    csrw pmpcfg0, zero
    la a0, goes_back
    enter 0, a0
    check s2, 1
    same s3, a0
    same s4, a0
    # an execute-only region of 8 bytes, the rest read-only
    la t0, goes_back
    srli t0, t0, 2
    csrw pmpaddr0, t0             # NAPOT, 8 bytes
    li t0, -1
    csrw pmpaddr1, t0
    li t0, 0x191c
    csrw pmpcfg0, t0
    csrr t1, pmpcfg0
    same t0, t1
    enter 0, a0
    check s2, 8
    la a0, loads
    enter 0, a0
    check s2, 1
    la a0, goes_back
    li t0, 1 << 17 | 1 << 11
    csrs mstatus, t0
    traps 5, lw a1, (a0)
    same s4, a0
    li t0, 1 << 17
    csrs mstatus, t0
    traps 7, sw a1, 16(a0)
    li t0, 1 << 17
    csrs mstatus, t0
    works lw a1, 16(a0)
    li t0, 1 << 17
    csrc mstatus, t0
    works sw zero, -64(sp)
    # locked entries bind machine mode, and stay
    la t0, word
    srli t0, t0, 2
    csrw pmpaddr2, t0
    addi t0, t0, 1
    csrw pmpaddr3, t0
    li t0, 0x1f000000 | 0x890000
    li t1, 0x89000000
    csrw pmpcfg0, t1              # entry 3: TOR, locked, read-only
    csrr t2, pmpcfg0
    same t1, t2
    csrw pmpcfg0, zero
    csrr t2, pmpcfg0
    same t1, t2
    csrr t0, pmpaddr2
    csrw pmpaddr2, zero           # the bottom of a locked range is locked too
    csrr t1, pmpaddr2
    same t0, t1
    la a0, word
    works lw a1, (a0)
    traps 7, sw a1, (a0)
    works sw a1, 4(a0)
    finish
    .text
    .balign 4
user_time:
    rdtime a0
    ecall
idle:
    j .
waits:
    wfi
    li a1, 42
    ecall
    .balign 4
fence:
    sfence.vma
    ecall
root:
    csrr a1, satp
    csrw satp, a1
    ecall
returns:
    sret
loads:
    lw a1, (a0)
    ecall
    .balign 8
goes_back:
    ecall
    nop
    nop
    .balign 4
in_supervisor:
    csrr a1, scause
    ecall
    .balign 4
vectored:
    .option push
    .option norvc
    j base
    j one
    j fail
    j fail
    j fail
    j five
    j fail
    j fail
    j fail
    j nine
    .option pop
base:
    li s2, 100
    jr s1
one:
    li s2, 1
    jr s1
five:
    li s2, 5
    jr s1
nine:
    li s2, 9
    jr s1
    .data
    .balign 16
word: .byte 1, 2, 3, 4, 5, 6, 7, 8
    .word 0, 0, 0, 0
