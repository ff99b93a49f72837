# A Linux program for riscv64: prints a line and the sum of 1..100, and ends with status 0.
#
#   isagen build riscv64
#   isagen asm riscv64 examples/hello.s -o hello
#   isagen run hello

    .section .rodata
text:
    .ascii "hello from riscv64: the sum of 1 to 100 is "
text_end:

    .bss
    .balign 8
digits:
    .space 24

    .text
    .globl _start
_start:
    li   a7, 64                 # write
    li   a0, 1
    la   a1, text
    li   a2, text_end - text
    ecall

    li   t0, 0                  # the sum
    li   t1, 100
sum:
    add  t0, t0, t1
    addi t1, t1, -1
    bnez t1, sum

    la   t2, digits + 23        # its digits, from the last one
    li   t3, 10
    li   t4, '\n'
    sb   t4, 0(t2)
next_digit:
    remu t4, t0, t3
    addi t4, t4, '0'
    addi t2, t2, -1
    sb   t4, 0(t2)
    divu t0, t0, t3
    bnez t0, next_digit

    li   a7, 64
    li   a0, 1
    mv   a1, t2
    la   a2, digits + 24
    sub  a2, a2, t2
    ecall

    li   a7, 93                 # exit
    li   a0, 0
    ecall
