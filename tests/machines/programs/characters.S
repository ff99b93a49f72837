/* The console device, a character a write; RV32 writes the lower word first. Waits, and ends with code 5. */
    .section .text.start, "ax"
    .globl _start
_start:
    la t0, tohost
    la t2, message
1:  lbu t1, (t2)
    beqz t1, 3f
    addi t2, t2, 1
#if __riscv_xlen == 64
    li t3, 0x0101 << 48
    or t1, t1, t3
    sd t1, (t0)
#else
    li t3, 0x0101 << 16
    sw t1, (t0)
    sw t3, 4(t0)
#endif
2:  lw t1, (t0)
    bnez t1, 2b
    j 1b
3:  wfi
    li t1, 11
    sw t1, (t0)
4:  j 4b
message: .asciz "abc\n"

    .section .tohost, "aw"
    .balign 64
    .globl tohost
tohost: .dword 0
