    .section .text.start, "ax"
    .globl _start
_start:
    la sp, stack_top
    li t0, 1 << 13          # floating point on
    csrs mstatus, t0
    la t0, trapped
    csrw mtvec, t0
    call main
    slli a0, a0, 1
    ori a0, a0, 1
exit:
    la t0, tohost
    sw a0, 0(t0)
    sw zero, 4(t0)
1:  j 1b
    .balign 4
trapped:
    csrr a0, mcause
    slli a0, a0, 1
    addi a0, a0, 201
    j exit

    .section .tohost, "aw"
    .balign 64
    .globl tohost
tohost: .dword 0
    .balign 64
    .globl fromhost
fromhost: .dword 0

    .section .signature, "aw"
    .balign 16
    .globl begin_signature
begin_signature: .space 32
    .globl end_signature
end_signature:
