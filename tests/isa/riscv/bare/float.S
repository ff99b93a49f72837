#include "env.h"
    .macro single reg, bits
    li t0, \bits
    fmv.w.x \reg, t0
    .endm
    .macro half reg, bits
    li t0, \bits
    fmv.h.x \reg, t0
    .endm
    .macro double reg, bits
    li t0, \bits >> 32
    li t1, \bits & 0xffffffff
    la t2, cell
    sw t1, (t2)
    sw t0, 4(t2)
    fld \reg, (t2)
    .endm
    // the result's low word, and its upper word in the boxed register
    .macro gives reg, low, high, flags
    la t2, cell
    fsd \reg, (t2)
    lw t0, (t2)
    lw t1, 4(t2)
    li t2, \low
    sext t2
    same t0, t2
    li t2, \high
    sext t2
    same t1, t2
    frflags t0
    check t0, \flags
    fsflags zero
    .endm
    .macro sext reg
#if __riscv_xlen == 64
    sext.w \reg, \reg
#endif
    .endm
    begin
    csrw fcsr, zero
    # --- NaN boxing
    double fa0, 0xffffffff3f800000
    single fa1, 0x40000000
    fadd.s fa2, fa0, fa1
    gives fa2, 0x40400000, 0xffffffff, 0
    double fa0, 0xfffffffe3f800000
    fadd.s fa2, fa0, fa1
    gives fa2, 0x7fc00000, 0xffffffff, 0
    fsgnj.s fa2, fa0, fa0
    gives fa2, 0x7fc00000, 0xffffffff, 0
    feq.s a0, fa0, fa0
    check a0, 0
    fclass.s a0, fa0
    check a0, 0x200
    fmv.x.w a0, fa0                      # bits as they are
    li a1, 0x3f800000
    same a0, a1
    fcvt.w.s a0, fa0
    li a1, 0x7fffffff
    same a0, a1
    frflags a0
    check a0, 0x10
    fsflags zero
    # --- NaNs: canonical; signalling ones raise invalid
    single fa0, 0x7f800001
    single fa1, 0x3f800000
    fadd.s fa2, fa0, fa1
    gives fa2, 0x7fc00000, 0xffffffff, 0x10
    fmin.s fa2, fa0, fa1
    gives fa2, 0x3f800000, 0xffffffff, 0x10
    single fa0, 0xffc12345
    fmul.s fa2, fa0, fa1
    gives fa2, 0x7fc00000, 0xffffffff, 0
    fmax.s fa2, fa0, fa0
    gives fa2, 0x7fc00000, 0xffffffff, 0
    flt.s a0, fa0, fa1
    frflags a0
    check a0, 0x10
    fsflags zero
    feq.s a0, fa0, fa1
    frflags a0
    check a0, 0
    single fa0, 0x80000000
    single fa1, 0
    fmin.s fa2, fa1, fa0
    gives fa2, 0x80000000, 0xffffffff, 0
    fmax.s fa2, fa0, fa1
    gives fa2, 0, 0xffffffff, 0
    # --- flags
    single fa0, 0x3f800000
    fdiv.s fa2, fa0, fa1
    gives fa2, 0x7f800000, 0xffffffff, 8
    fdiv.s fa2, fa1, fa1
    gives fa2, 0x7fc00000, 0xffffffff, 0x10
    single fa0, 0xbf800000
    fsqrt.s fa2, fa0
    gives fa2, 0x7fc00000, 0xffffffff, 0x10
    single fa0, 0x7f7fffff
    fadd.s fa2, fa0, fa0
    gives fa2, 0x7f800000, 0xffffffff, 5
    fadd.s fa2, fa0, fa0, rtz
    gives fa2, 0x7f7fffff, 0xffffffff, 5
    single fa0, 0x00800000
    single fa1, 0x3f000001
    fmul.s fa2, fa0, fa1
    gives fa2, 0x00400000, 0xffffffff, 3
    single fa1, 0x3f000000               # subnormal but exact
    fmul.s fa2, fa0, fa1
    gives fa2, 0x00400000, 0xffffffff, 0
    # tininess after rounding: rounds up to the smallest normal number
    single fa0, 0x00ffffff
    single fa1, 0x3f000000
    fmul.s fa2, fa0, fa1
    gives fa2, 0x00800000, 0xffffffff, 3
    single fa0, 0x3f7fffff
    single fa1, 0x00800001
    fmul.s fa2, fa0, fa1
    gives fa2, 0x00800000, 0xffffffff, 1
    # --- infinity times 0 plus a NaN is invalid
    single fa0, 0x7f800000
    single fa1, 0
    single fa3, 0x7fc00000
    fmadd.s fa2, fa0, fa1, fa3
    gives fa2, 0x7fc00000, 0xffffffff, 0x10
    # fnmadd: -(a * b) - c; -(1 * 1) - -1 is -0 only downwards
    single fa0, 0x3f800000
    single fa1, 0xbf800000
    fnmadd.s fa2, fa0, fa0, fa1
    gives fa2, 0, 0xffffffff, 0
    fnmadd.s fa2, fa0, fa0, fa1, rdn
    gives fa2, 0x80000000, 0xffffffff, 0
    # --- rounding modes: 1 + 2^-24
    single fa0, 0x3f800000
    single fa1, 0x33800000
    .irp m, 0, 1, 2
    csrwi frm, \m
    fadd.s fa2, fa0, fa1
    gives fa2, 0x3f800000, 0xffffffff, 1
    .endr
    .irp m, 3, 4
    csrwi frm, \m
    fadd.s fa2, fa0, fa1
    gives fa2, 0x3f800001, 0xffffffff, 1
    .endr
    fadd.s fa2, fa0, fa1, rne
    gives fa2, 0x3f800000, 0xffffffff, 1
    .irp m, 5, 6, 7
    csrwi frm, \m
    csrr a0, frm
    check a0, \m
    traps 2, fadd.s fa2, fa0, fa1
    works fadd.s fa2, fa0, fa1, rne
    works fsgnj.s fa2, fa0, fa1
    .endr
    traps 2, .word 0x00b56553            # fadd.s with rm = 6
    csrw fcsr, zero
    # --- conversions
    .macro convert from, low, op, expected, flags
    single \from, \low
    \op a0, \from, rtz
    li a1, \expected
    same a0, a1
    frflags a0
    check a0, \flags
    fsflags zero
    .endm
    convert fa0, 0xbf8ccccd, fcvt.w.s, -1, 1
    convert fa0, 0xbf8ccccd, fcvt.wu.s, 0, 0x10
    convert fa0, 0xbf666666, fcvt.wu.s, 0, 1
    convert fa0, 0x4f000000, fcvt.w.s, 0x7fffffff, 0x10
    convert fa0, 0xcf000000, fcvt.w.s, -0x80000000, 0
    convert fa0, 0x4f800000, fcvt.wu.s, -1, 0x10
    convert fa0, 0x4f7fffff, fcvt.wu.s, -256, 0
    convert fa0, 0xff800000, fcvt.wu.s, 0, 0x10
    convert fa0, 0xffc00000, fcvt.wu.s, -1, 0x10
#if __riscv_xlen == 64
    convert fa0, 0x5f000000, fcvt.l.s, 0x7fffffffffffffff, 0x10
    convert fa0, 0x5f000000, fcvt.lu.s, 0x8000000000000000, 0
    li a0, -1
    fcvt.s.lu fa0, a0
    gives fa0, 0x5f800000, 0xffffffff, 1
    fcvt.s.wu fa0, a0
    gives fa0, 0x4f800000, 0xffffffff, 1
    li a0, 0xffffffff00000001            # only the low word counts
    fcvt.d.w fa0, a0
    gives fa0, 0, 0x3ff00000, 0
    li a0, 0x3ff0000000000000
    fmv.d.x fa0, a0
    gives fa0, 0, 0x3ff00000, 0
#endif
    # --- doubles
    double fa0, 0x3ff0000000000000
    double fa1, 0x4008000000000000
    fdiv.d fa2, fa0, fa1
    gives fa2, 0x55555555, 0x3fd55555, 1
    fdiv.d fa2, fa0, fa1, rup
    gives fa2, 0x55555556, 0x3fd55555, 1
    fsqrt.d fa2, fa1
    gives fa2, 0xe8584caa, 0x3ffbb67a, 1
    double fa0, 0x3ff0000010000000
    fcvt.s.d fa2, fa0
    gives fa2, 0x3f800000, 0xffffffff, 1
    double fa0, 0x7ff0000000000001
    fcvt.s.d fa2, fa0
    gives fa2, 0x7fc00000, 0xffffffff, 0x10
    single fa0, 0x7f800001
    fcvt.d.s fa2, fa0
    gives fa2, 0, 0x7ff80000, 0x10
    single fa0, 0x00000001
    fcvt.d.s fa2, fa0
    gives fa2, 0, 0x36a00000, 0
    # --- halves
    half fa0, 0x3c00
    half fa1, 0x4200
    fdiv.h fa2, fa0, fa1
    gives fa2, 0xffff3555, 0xffffffff, 1
    single fa3, 0x3c003c00
    fadd.h fa2, fa3, fa0
    gives fa2, 0xffff7e00, 0xffffffff, 0
    fcvt.s.h fa2, fa1
    gives fa2, 0x40400000, 0xffffffff, 0
    half fa0, 0x7bff
    fadd.h fa2, fa0, fa0
    gives fa2, 0xffff7c00, 0xffffffff, 5
    half fa0, 0x0001
    fcvt.d.h fa2, fa0
    gives fa2, 0, 0x3e700000, 0
    double fa0, 0x3e60000000000000       # half of the smallest: to even, 0
    fcvt.h.d fa2, fa0
    gives fa2, 0xffff0000, 0xffffffff, 3
    fcvt.h.d fa2, fa0, rup
    gives fa2, 0xffff0001, 0xffffffff, 3
    la a0, cell
    half fa0, 0xbc00
    fsh fa0, 2(a0)
    flh fa1, 2(a0)
    gives fa1, 0xffffbc00, 0xffffffff, 0
    half fa0, 0xbc00
    fmv.x.h a0, fa0
    li a1, -0x4400
    same a0, a1
    # --- the state in mstatus
    li t0, 0x6000
    csrc mstatus, t0
    traps 2, fadd.s fa0, fa0, fa0
    traps 2, csrr a0, fcsr
    la a0, cell
    traps 2, fsw fa0, (a0)
    traps 2, flw fa0, (a0)
    traps 2, .word 0x00052507            # flw fa0, (a0)
    li t0, 0x2000
    csrs mstatus, t0
    csrr t0, mstatus
    li t1, 0x6000
    and t0, t0, t1
    check t0, 0x2000
    fsw fa0, (a0)
    csrr t0, mstatus
    and t0, t0, t1
    check t0, 0x2000
    flw fa0, (a0)
    csrr t0, mstatus
    and t2, t0, t1
    same t2, t1
    slti t2, t0, 0                       # SD
    check t2, 1
    finish
    .data
    .balign 8
cell: .dword 0
