# Ends with status 45, if each instruction of kinds.isa does what it should.
    .text
    .globl _start
_start:
    li   a1, 0x0100000000000000
    li   a2, 41
    swapadd a0, a1, a2              # 1 + 41
    triple  a0, a0, -84             # 42
    li   a3, 7
    li   a4, 1
    bmore a3, a4, 1f
    li   a0, 1
1:  la   a5, numbers
    li   a6, 2
    lwx  a6, a5, a6                 # -5
    add  a0, a0, a6                 # 37
    c.negate a0
    csrw scratch0, a0
    csrr a0, 0x800
    c.negate a0
    la   a5, doubles
    fld  fa0, 0(a5)
    fld  fa1, 8(a5)
    favg.d fa2, fa0, fa1
    fcvt.w.d a1, fa2, rtz           # 3
    add  a0, a0, a1
    addi a0, a0, 5
    li   a7, 93
    ecall
    .data
numbers: .word 1, 2, -5
    .balign 8
doubles: .dword 0x4000000000000000, 0x4010000000000000
