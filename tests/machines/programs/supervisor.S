        .section .boot, "ax"
        .globl _start
_start: csrr  s0, mhartid
        la    sp, stacks
        slli  t0, s0, 12
        add   sp, sp, t0
        li    t0, 4096
        add   sp, sp, t0
        li    t0, -1
        csrw  pmpaddr0, t0
        li    t0, 0x1f
        csrw  pmpcfg0, t0
        csrw  mcounteren, t0
        li    t0, 0xb1ff
        csrw  medeleg, t0
        la    t0, mtrap
        csrw  mtvec, t0
        la    a0, table
        bnez  s0, 1f
        call  map
1:      la    t0, table
        srli  t0, t0, 12
        li    t1, 8
        slli  t1, t1, 60
        or    t0, t0, t1
        csrw  satp, t0
        sfence.vma
        bnez  s0, 2f
        call  next
        li    t0, 0x80
        csrs  mie, t0
2:      li    t0, 0x1800
        csrc  mstatus, t0
        li    t0, 0x800
        csrs  mstatus, t0
        la    t0, entry
        ld    t0, 0(t0)
        csrw  mepc, t0
        mv    a0, s0
        la    t0, high
        ld    t0, 0(t0)
        add   sp, sp, t0
        mret
next:   li    t1, 0x200bff8
        ld    t2, 0(t1)
        li    t1, 2000
        add   t2, t2, t1
        li    t1, 0x2004000
        sd    t2, 0(t1)
        ret
        .balign 4
mtrap:  csrw  mscratch, sp
        la    sp, traps
        sd    ra, 0(sp)
        sd    t1, 8(sp)
        sd    t2, 16(sp)
        call  next
        la    t1, counter
        ld    t1, 0(t1)
        la    t2, high
        ld    t2, 0(t2)
        sub   t1, t1, t2
        ld    t2, 0(t1)
        addi  t2, t2, 1
        sd    t2, 0(t1)
        ld    ra, 0(sp)
        ld    t1, 8(sp)
        ld    t2, 16(sp)
        csrr  sp, mscratch
        mret
        .balign 8
entry:  .quad kernel
counter: .quad ticks
high:   .quad 0xffffffff00000000
        .balign 16
stacks: .space 8192
traps:  .space 64
        .balign 4096
table:  .space 4096
