/* A supervisor at high virtual addresses maps a user's pages when they fault, and marks them dirty. Ends with what the user passes to
   its ecall: 0, or the number of what went wrong; from 100 on, the supervisor found it. */
#define V 1
#define R 2
#define W 4
#define X 8
#define U 16
#define A 64
#define D 128
#if __riscv_xlen == 64
#define L ld
#define S sd
#define WORD 8
#define OFF (0xffffffffffe00000 - 0x80000000)
#else
#define L lw
#define S sw
#define WORD 4
#define OFF (0xffc00000 - 0x80000000)
#endif
    .section .text.start,"ax"
    .globl _start
_start:
    la t0, 1f
    csrw mtvec, t0
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    .balign 4
1:
    // page tables
#if __riscv_xlen == 64
    la t0, l1k
    srli t0,t0,2
    ori t0,t0,V
    la t1, root
    li t2, 511*8
    add t2,t2,t1
    S t0,(t2)
    li t0, 0x80000000>>2 | V|R|W|X|A|D
    la t1, l1k
    li t2, 511*8
    add t2,t2,t1
    S t0,(t2)
    la t0, l1
    srli t0,t0,2
    ori t0,t0,V
    la t1, root
    S t0,(t1)
    la t0, l0
    srli t0,t0,2
    ori t0,t0,V
    la t1, l1
    S t0,(t1)
    la t0, root
    srli t0,t0,12
    li t1, 8<<60
    or t0,t0,t1
#else
    li t0, 0x80000000>>2 | V|R|W|X|A|D
    la t1, root
    li t2, 1023*4
    add t2,t2,t1
    S t0,(t2)
    la t0, l0
    srli t0,t0,2
    ori t0,t0,V
    S t0,(t1)
    la t0, root
    srli t0,t0,12
    li t1, 1<<31
    or t0,t0,t1
#endif
    csrw satp, t0
    li t1, OFF
    la t0, kernel
    add t0,t0,t1
    csrw stvec, t0
    la t0, area
    add t0,t0,t1
    csrw sscratch, t0
    li t0, 0xb1ff & ~0x200 | 0x8000
    csrw medeleg, t0
    li t0, 0x6600
    csrw mstatus, t0
    li t0, 0x2000
    csrw sepc, t0
    li sp, 0x9000
    li s0, 0
    sret
    .balign 4
kernel:
    csrrw t6, sscratch, t6
    S t0,0(t6)
    S t1,8(t6)
    S t2,16(t6)
    S t3,24(t6)
    S t4,32(t6)
    csrr t0, scause
    li t1, 8
    beq t0,t1, call
    li t1, 12
    beq t0,t1, fault
    li t1, 13
    beq t0,t1, fault
    li t1, 15
    beq t0,t1, fault
    li s1, 100
    j end
fault:
    addi s0, s0, 1
    csrr t0, stval
    srli t1, t0, 12
    sltiu t2, t1, 16
    li s1, 101
    beqz t2, end
    // present already? only the dirty bit may be missing
    la t2, l0
    li t3, WORD
    slli t4, t1, 3
#if __riscv_xlen == 32
    slli t4, t1, 2
#endif
    add t2, t2, t4
    L t3, (t2)
    andi t4, t3, V
    beqz t4, 1f
    csrr t4, scause
    addi t4, t4, -15
    li s1, 102
    bnez t4, end
    andi t4, t3, D
    li s1, 103
    bnez t4, end
    ori t3, t3, D
    S t3, (t2)
    sfence.vma t0
    j back
1:  la t3, pages
    li t4, OFF
    sub t3, t3, t4
    slli t4, t1, 12
    add t3, t3, t4
    srli t3, t3, 2
    ori t3, t3, V|R|W|X|U|A
    S t3, (t2)
    sfence.vma t0
    fence.i
back:
    L t0,0(t6)
    L t1,8(t6)
    L t2,16(t6)
    L t3,24(t6)
    L t4,32(t6)
    csrrw t6, sscratch, t6
    sret
call: mv s1, a0
    // a0: the user's code
end:
    slli a0, s1, 1
    ori a0, a0, 1
    la t0, tohost
    sw a0, (t0)
    sw zero, 4(t0)
    j .
    .balign 4096
pages: .space 8192          // user pages 0 and 1; its code is at 0x2000
    .option norvc
    li a5, 3
    // data over two pages that are both missing
    li a0, 0x8ffd
    li a1, 0x12345678
    sw a1, (a0)
    lw a2, (a0)
    li a7, 1
    bne a1, a2, done
    li a0, 0xa000
    amoadd.w a2, a1, (a0)
    lw a2, (a0)
    li a7, 2
    bne a1, a2, done
    li a0, 0xb008
1:  lr.w a2, (a0)
    addi a2, a2, 1
    sc.w a3, a2, (a0)
    bnez a3, 1b
    lw a2, (a0)
    li a3, 1
    li a7, 3
    bne a2, a3, done
    fmv.w.x fa0, a1
    li a0, 0xc000
    fsw fa0, -2(a0)
    flw fa1, -2(a0)
    fmv.x.w a2, fa1
    li a7, 4
    bne a1, a2, done
    li a6, 0x3ffe
    jalr ra, a6
    li a7, 5
    li t0, 0x123
    bne a3, t0, done
    // write code on a page, run it
    li a0, 0xd000
    li t0, 0x00008067
    li t1, 0x00700693
    sw t1, (a0)
    sw t0, 4(a0)
    fence.i
    jalr ra, a0
    li t1, 0x00800693
    sw t1, (a0)
    fence.i
    mv t2, a3
    jalr ra, a0
    li a7, 6
    li t0, 7
    bne t2, t0, done
    li t0, 8
    bne a3, t0, done
    li a7, 0
done: mv a0, a7
    ecall
    .balign 4096
    .space 4094-4096+4096
    .half 0x0693
    .half 0x1230
    ret
    .balign 4096
    .space 4096*12
    .section .tohost,"aw"
    .balign 64
    .globl tohost
tohost: .dword 0
    .data
    .balign 4096
root: .space 4096
l1: .space 4096
l1k: .space 4096
l0: .space 4096
area: .space 256
