// Own test environment: check by check, in machine mode; gp counts. Exit code: 0, or the number of the check that failed.
#if __riscv_xlen == 64
#define L ld
#define S sd
#define WORD 8
#else
#define L lw
#define S sw
#define WORD 4
#endif
#define PAGE 12
    .macro begin
    .section .text.start, "ax"
    .globl _start
_start:
    la t0, handler
    csrw mtvec, t0
    li t0, 0x6000
    csrs mstatus, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    li gp, 1
    la sp, stack_top
    j main
    .balign 4
handler:
    csrr s2, mcause
    csrr s3, mepc
    csrr s4, mtval
    csrr s5, mstatus
    li t6, 0x1800
    csrs mstatus, t6
    csrw mepc, s1
    mret
fail:
    slli gp, gp, 1
    ori gp, gp, 1
    j exit
pass:
    li gp, 1
exit:
    li t0, 1 << 17
    csrc mstatus, t0
    csrw satp, zero
    la t0, tohost
    sw gp, 0(t0)
    sw zero, 4(t0)
1:  j 1b
main:
    .endm
    // the next check: a register must hold a value
    .macro check reg, value
    addi gp, gp, 1
    li t6, \value
    bne \reg, t6, fail
    .endm
    .macro same reg, other
    addi gp, gp, 1
    bne \reg, \other, fail
    .endm
    // an instruction in the mode now that must trap with this cause
    .macro traps cause, insn:vararg
    la s1, 98f
    li s2, -1
    .option push
    .option norvc
97: \insn
    .option pop
98: addi gp, gp, 1
    li t6, \cause
    bne s2, t6, fail
    la t6, 97b
    bne s3, t6, fail
    .endm
    // one that must not
    .macro works insn:vararg
    la s1, 98f
    li s2, -1
    \insn
98: addi gp, gp, 1
    li t6, -1
    bne s2, t6, fail
    .endm
    // go to a mode (0 user, 1 supervisor) at an address in a register, until a trap
    .macro enter mode, reg
    la s1, 96f
    li s2, -1
    li t6, 0x1800
    csrc mstatus, t6
    li t6, \mode << 11
    csrs mstatus, t6
    csrw mepc, \reg
    mret
96:
    .endm
    .macro finish
    j pass
    .section .tohost, "aw"
    .balign 64
    .globl tohost
tohost: .dword 0
    .balign 64
    .globl fromhost
fromhost: .dword 0
    .bss
    .balign 16
    .space 4096
stack_top:
    .endm
