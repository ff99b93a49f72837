# A small supervisor binary interface (RISC-V SBI specification 2.0) for the virt boards, so that a kernel boots where no other
# firmware is installed. Machine mode's only program: it starts the kernel in supervisor mode on one hart, keeps the others until
# the kernel starts them, and answers the kernel's calls.
#
# lx, sx: load and store of XLEN bits; WORD: bytes of a register; HIGH, call_area: see sbi.py. They are replaced before assembling.
#
# Starts with a0 = hart, a1 = device tree, a2 = OpenSBI's `struct fw_dynamic_info`, of which only next_addr is used.

CLINT      = 0x2000000                  # ACLINT: a software interrupt for each hart, and the timers
MTIMECMP   = 0x4000
UART       = 0x10000000
FINISHER   = 0x100000
RAM        = 0x80000000
OWN        = 0x10000                    # bytes of RAM, from its start, that are this program's
POWER_OFF  = 0x5555
RESTART    = 0x7777

HARTS      = 8
AREA_SHIFT = 9                          # 512 bytes a hart
REQUESTS   = 256                        # what other harts ask for: bits
STATE      = 260                        # of hart state management (table 6)
START      = 264                        # where a stopped hart is to start, and
OPAQUE     = 272                        # what it finds in a1

ASK_SOFT   = 1                          # an interrupt
ASK_FETCH  = 2                          # fence.i
ASK_MAP    = 4                          # sfence.vma

STARTED    = 0
STOPPED    = 1
START_PENDING = 2

FAILED          = -1
NOT_SUPPORTED   = -2
INVALID_PARAM   = -3
INVALID_ADDRESS = -5
ALREADY         = -6

# --- start ---------------------------------------------------------------------------------------------------------------------

_start:
        la      t0, areas
        slli    t1, a0, AREA_SHIFT
        add     tp, t0, t1              # tp: this hart's area, in machine mode
        csrw    mscratch, tp
        la      t0, trap
        csrw    mtvec, t0
        li      t0, 0xb1ff              # all but calls from supervisor and machine mode are the kernel's
        csrw    medeleg, t0
        li      t0, 0x222
        csrw    mideleg, t0
        li      t0, 7                   # cycle, time, instret
        csrw    mcounteren, t0
        li      t0, (RAM >> 2) | (OWN >> 3) - 1
        csrw    pmpaddr0, t0            # this program's memory is its own,
        li      t0, -1
        csrw    pmpaddr1, t0            # the rest is everybody's
        li      t0, 0x1f18
        csrw    pmpcfg0, t0
        li      t0, 8
        csrw    mie, t0                 # other harts' requests
        la      t0, chosen
        li      t1, 1
        amoswap.w t1, t1, (t0)
        bnez    t1, park                # another hart was first
        la      t0, areas
        li      t1, HARTS
        li      t3, STOPPED
others: sw      t3, STATE(t0)
        addi    t0, t0, 1 << AREA_SHIFT
        addi    t1, t1, -1
        bnez    t1, others
        sw      zero, STATE(tp)
        fence
        lx      t2, 2*WORD(a2)          # next_addr
        mv      t3, a1
        j       enter

# The others wait until the kernel starts them.
park:
        wfi
        csrr    a0, mhartid
        call    acknowledge
        lw      t1, STATE(tp)
        li      t2, START_PENDING
        bne     t1, t2, park
        fence
        lx      t2, START(tp)
        lx      t3, OPAQUE(tp)
        sw      zero, STATE(tp)
        csrr    a0, mhartid

# Supervisor mode at t2, with a0 = hart and a1 = t3; interrupts and translation off.
enter:
        csrw    mepc, t2
        li      t0, 0x1800
        csrc    mstatus, t0
        li      t0, 0x0802              # MPP = supervisor; SIE off
        csrc    mstatus, t0
        li      t0, 0x0800
        csrs    mstatus, t0
        csrw    satp, zero
        csrw    sie, zero
        fence.i
        mv      a1, t3
        mret

# --- traps ---------------------------------------------------------------------------------------------------------------------

        .balign 4
trap:
        csrrw   tp, mscratch, tp
        sx      ra, 1*WORD(tp)
        sx      t0, 5*WORD(tp)
        sx      t1, 6*WORD(tp)
        sx      t2, 7*WORD(tp)
        sx      a0, 10*WORD(tp)
        sx      a1, 11*WORD(tp)
        sx      a2, 12*WORD(tp)
        sx      a3, 13*WORD(tp)
        sx      a4, 14*WORD(tp)
        sx      a5, 15*WORD(tp)
        sx      t3, 28*WORD(tp)
        sx      t4, 29*WORD(tp)
        sx      t5, 30*WORD(tp)
        sx      t6, 31*WORD(tp)
        csrr    t0, mcause
        bgez    t0, exception
        slli    t0, t0, 1               # without the interrupt bit
        srli    t0, t0, 1
        li      t1, 7
        beq     t0, t1, timer
        csrr    a0, mhartid
        call    acknowledge
        j       back

# The timer's interrupt becomes the supervisor's, and stays off until the kernel sets the timer again.
timer:
        li      t0, 0x80
        csrc    mie, t0
        li      t0, 0x20
        csrs    mip, t0
        j       back

exception:
        li      t1, 9
        beq     t0, t1, call_in
        j       die                     # a mistake of ours

call_in:
        csrr    t0, mepc
        addi    t0, t0, 4
        csrw    mepc, t0
        call    dispatch                # a7: extension, a6: function, a0 ... a4: arguments; results in a0, a1
        sx      a0, 10*WORD(tp)
        sx      a1, 11*WORD(tp)

back:
        lx      ra, 1*WORD(tp)
        lx      t0, 5*WORD(tp)
        lx      t1, 6*WORD(tp)
        lx      t2, 7*WORD(tp)
        lx      a0, 10*WORD(tp)
        lx      a1, 11*WORD(tp)
        lx      a2, 12*WORD(tp)
        lx      a3, 13*WORD(tp)
        lx      a4, 14*WORD(tp)
        lx      a5, 15*WORD(tp)
        lx      t3, 28*WORD(tp)
        lx      t4, 29*WORD(tp)
        lx      t5, 30*WORD(tp)
        lx      t6, 31*WORD(tp)
        csrrw   tp, mscratch, tp
        mret

die:
        li      t0, FINISHER
        li      t1, 0x13333             # failure, code 1
        sw      t1, 0(t0)
        j       die

# --- requests from other harts -------------------------------------------------------------------------------------------------

# Act on what other harts ask hart a0 (this one) for. Changes t0, t1, t2.
acknowledge:
        slli    t0, a0, 2
        li      t1, CLINT
        add     t0, t0, t1
        sw      zero, 0(t0)             # first, so that nothing asked later is lost
        fence
        addi    t0, tp, REQUESTS
        amoswap.w t1, zero, (t0)
        andi    t2, t1, ASK_SOFT
        beqz    t2, not_soft
        csrsi   mip, 2
not_soft:
        andi    t2, t1, ASK_FETCH
        beqz    t2, not_fetch
        fence.i
not_fetch:
        andi    t2, t1, ASK_MAP
        beqz    t2, not_map
        sfence.vma
not_map:
        ret

# Ask harts for t6 (bits): a0 = mask, a1 = number of its lowest bit, or -1: all. Error in a0.
# With a request that isn't ASK_SOFT, waits until they have acted. Changes t0 ... t5, a2 ... a5.
ask:
        mv      t5, ra
        li      t0, -1
        bne     a1, t0, masked
        la      a0, present
        lw      a0, 0(a0)
        li      a1, 0
masked:
        li      t0, HARTS
        bgeu    a1, t0, ask_invalid
        sll     a0, a0, a1
        la      t0, present
        lw      t0, 0(t0)
        not     t0, t0
        and     t0, t0, a0
        bnez    t0, ask_invalid         # a hart that isn't there
        mv      a2, a0                  # harts to ask
        li      a3, 0
ask_next:
        srl     t0, a2, a3
        andi    t1, t0, 1
        beqz    t1, ask_skip
        la      t1, areas
        slli    t2, a3, AREA_SHIFT
        add     t1, t1, t2
        lw      t2, STATE(t1)
        bnez    t2, ask_skip            # a stopped hart starts afresh
        addi    t1, t1, REQUESTS
        amoor.w zero, t6, (t1)
        fence
        slli    t2, a3, 2
        li      t3, CLINT
        add     t2, t2, t3
        li      t3, 1
        sw      t3, 0(t2)
ask_skip:
        addi    a3, a3, 1
        li      t0, HARTS
        bltu    a3, t0, ask_next
        li      t0, ASK_SOFT
        beq     t6, t0, ask_done
        li      a3, 0
ask_wait:
        srl     t0, a2, a3
        andi    t1, t0, 1
        beqz    t1, ask_met
        csrr    a0, mhartid             # this hart may be asked, too: by itself, or by one that waits for it
        call    acknowledge
        la      t1, areas
        slli    t2, a3, AREA_SHIFT
        add     t1, t1, t2
        lw      t2, STATE(t1)
        bnez    t2, ask_met
        lw      t2, REQUESTS(t1)
        and     t2, t2, t6
        bnez    t2, ask_wait
ask_met:
        addi    a3, a3, 1
        li      t0, HARTS
        bltu    a3, t0, ask_wait
ask_done:
        li      a0, 0
        li      a1, 0
        jr      t5
ask_invalid:
        li      a0, INVALID_PARAM
        li      a1, 0
        jr      t5

# --- calls ---------------------------------------------------------------------------------------------------------------------

dispatch:
        li      t0, 0x10
        beq     a7, t0, base
        li      t0, 0x54494d45          # "TIME"
        beq     a7, t0, time_extension
        li      t0, 0x735049            # "sPI"
        beq     a7, t0, ipi
        li      t0, 0x52464e43          # "RFNC"
        beq     a7, t0, remote_fence
        li      t0, 0x48534d            # "HSM"
        beq     a7, t0, harts
        li      t0, 0x53525354          # "SRST"
        beq     a7, t0, system_reset
        li      t0, 0x4442434e          # "DBCN"
        beq     a7, t0, debug_console
        beqz    a7, set_timer           # the legacy extensions (chapter 5)
        li      t0, 1
        beq     a7, t0, put_character
        li      t0, 2
        beq     a7, t0, get_character
        li      t0, 8
        beq     a7, t0, power_off
unsupported:
        li      a0, NOT_SUPPORTED
        li      a1, 0
        ret

good:
        li      a0, 0
        li      a1, 0
        ret

# Base (chapter 4).
base:
        li      t0, 3
        beq     a6, t0, probe
        bgtu    a6, t0, machine_identity
        la      t0, versions
        slli    t1, a6, 2
        add     t0, t0, t1
        lw      a1, 0(t0)
        li      a0, 0
        ret
probe:
        la      t0, extensions
        li      t2, EXTENSIONS
        li      a1, 0
probe_next:
        lw      t1, 0(t0)
        beq     t1, a0, probe_found
        addi    t0, t0, 4
        addi    t2, t2, -1
        bnez    t2, probe_next
        li      a0, 0
        ret
probe_found:
        li      a1, 1
        li      a0, 0
        ret
machine_identity:
        li      t0, 6
        bgtu    a6, t0, unsupported
        li      a0, 0
        li      a1, 0                   # mvendorid, marchid and mimpid are 0
        ret

# Timer (chapter 6): a0 (and a1 on RV32) is the time.
time_extension:
        bnez    a6, unsupported
set_timer:
        csrr    t0, mhartid
        slli    t0, t0, 3
        li      t1, CLINT + MTIMECMP
        add     t0, t0, t1
        li      t1, -1
        sw      t1, 4(t0)               # never, until both halves are there
        sw      a0, 0(t0)
        HIGH    t1
        sw      t1, 4(t0)
        li      t0, 0x20
        csrc    mip, t0
        li      t0, 0x80
        csrs    mie, t0
        j       good

# Interrupts between harts (chapter 7).
ipi:
        bnez    a6, unsupported
        li      t6, ASK_SOFT
        j       ask

# Remote fences (chapter 8). All of the address space is fenced, whatever the range.
remote_fence:
        li      t6, ASK_FETCH
        beqz    a6, ask
        li      t0, 2
        bgtu    a6, t0, unsupported
        li      t6, ASK_MAP
        j       ask

# Hart state management (chapter 9).
harts:
        beqz    a6, hart_start
        li      t0, 1
        beq     a6, t0, hart_stop
        li      t0, 2
        bne     a6, t0, unsupported
        call_area a0
        lw      a1, STATE(t1)
        li      a0, 0
        ret
hart_start:
        call_area a0
        lw      t2, STATE(t1)
        li      t0, STOPPED
        bne     t2, t0, already
        sx      a1, START(t1)
        sx      a2, OPAQUE(t1)
        fence
        li      t2, START_PENDING
        sw      t2, STATE(t1)
        slli    a0, a0, 2
        li      t0, CLINT
        add     a0, a0, t0
        li      t0, 1
        sw      t0, 0(a0)
        j       good
already:
        li      a0, ALREADY
        li      a1, 0
        ret
hart_stop:
        li      t0, 0x80
        csrc    mie, t0
        csrw    mscratch, tp            # as at the start: tp and mscratch are the area
        li      t1, STOPPED
        fence
        sw      t1, STATE(tp)
        j       park
no_hart:
        li      a0, INVALID_PARAM
        li      a1, 0
        ret

# System reset (chapter 10).
system_reset:
        bnez    a6, unsupported
        beqz    a0, power_off
        li      t0, 2
        bgtu    a0, t0, no_hart
        li      t1, RESTART
        j       finish
power_off:
        li      t1, POWER_OFF
finish:
        li      t0, FINISHER
        sw      t1, 0(t0)
        j       finish

# Debug console (chapter 12): physical addresses; a2, the address's upper half, has to be 0 here.
debug_console:
        li      t0, 2
        beq     a6, t0, put_byte
        bgtu    a6, t0, unsupported
        bnez    a2, no_hart
        li      t0, RAM + OWN           # the kernel's memory only
        bltu    a1, t0, no_hart
        li      t1, UART
        li      t3, 0
        bnez    a6, console_read
console_write:
        beq     t3, a0, console_done
        add     t0, a1, t3
        lbu     t0, 0(t0)
        sb      t0, 0(t1)
        addi    t3, t3, 1
        j       console_write
console_read:
        beq     t3, a0, console_done
        lbu     t0, 5(t1)
        andi    t0, t0, 1
        beqz    t0, console_done
        lbu     t2, 0(t1)
        add     t0, a1, t3
        sb      t2, 0(t0)
        addi    t3, t3, 1
        j       console_read
console_done:
        mv      a1, t3
        li      a0, 0
        ret
put_byte:
put_character:
        li      t0, UART
        sb      a0, 0(t0)
        j       good
get_character:
        li      t0, UART
        lbu     t1, 5(t0)
        andi    t1, t1, 1
        li      a0, FAILED
        beqz    t1, no_character
        lbu     a0, 0(t0)
no_character:
        lx      a1, 11*WORD(tp)         # legacy calls have one result
        ret

# --- data ----------------------------------------------------------------------------------------------------------------------

        .balign 8
versions:
        .word   0x02000000              # specification 2.0
        .word   0x697367                # implementation and its version
        .word   1
extensions:
        .word   0x10, 0x54494d45, 0x735049, 0x52464e43, 0x48534d, 0x53525354, 0x4442434e, 0, 1, 2, 8
EXTENSIONS = 11
present:
        .word   PRESENT
chosen:
        .word   0
        .balign 512
areas:
        .space  HARTS << AREA_SHIFT
