# Long mode: from real mode to 64-bit code, exceptions (not those whose error codes name the IDT: QEMU 7.2 counts its entries as if
# they had 8 bytes), level 3, SYSCALL, interrupt stacks, compatibility mode, paging.
        .include "start.inc"

        .equ    CODE, 0x08
        .equ    DATA, 0x10
        .equ    CODE32, 0x18
        .equ    DATA3, 0x2b                     # behind the 32-bit code of level 3, as SYSRET has them
        .equ    CODE3, 0x33
        .equ    CODE32_3, 0x23
        .equ    TSS, 0x38
        .equ    STACK, 0x1c000
        .equ    STACK3, 0x1d000
        .equ    STACK_IST, 0x1b000
        .equ    IDT, 0x1e000
        .equ    PML4, 0x20000

main16:
        # tables: PML4, PDPT, PD with pages of 2 MiB, the second one divided (PT)
        mov     ax, 0x2000
        mov     es, ax
        xor     di, di
        xor     eax, eax
        mov     cx, 0x1000
        rep     stosd
        mov     dword ptr es:[0], PML4 + 0x1007
        mov     dword ptr es:[0x1000], PML4 + 0x2007
        mov     dword ptr es:[0x2000], 0x87
        mov     dword ptr es:[0x2008], PML4 + 0x3007
        mov     dword ptr es:[0x2010], 0x400087
        mov     dword ptr es:[0x2014], 0x80000000   # not executable
        mov     dword ptr es:[0x3008], 0x201005     # 0x201000: not writable
        mov     dword ptr es:[0x3010], 0x202003     # 0x202000: not for users
        mov     dword ptr es:[0x3018], 0x203007
        mov     eax, cr4
        or      eax, 0x220
        mov     cr4, eax
        mov     eax, PML4
        mov     cr3, eax
        mov     ecx, 0xc0000080
        rdmsr
        or      eax, 0x901                      # LME, SCE, NXE
        wrmsr
        lgdt    [gdtr]
        mov     eax, cr0
        or      eax, 0x80010001
        mov     cr0, eax
        .byte   0x66, 0xea
        .long   main64 + BASE
        .word   CODE

        .code64
main64:
        mov     eax, DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, STACK
        mov     edi, IDT
        lea     rax, [rip + stubs]
        xor     ecx, ecx
1:      mov     [rdi], ax
        mov     word ptr [rdi + 2], CODE
        mov     word ptr [rdi + 4], 0x8e00
        cmp     ecx, 3
        je      2f
        cmp     ecx, 0x30
        jb      3f
2:      mov     byte ptr [rdi + 5], 0xee
3:      mov     rdx, rax
        shr     rdx, 16
        mov     [rdi + 6], edx
        mov     qword ptr [rdi + 8], 0
        add     rdi, 16
        add     rax, 16
        inc     ecx
        cmp     ecx, 0x48
        jb      1b
        mov     byte ptr [IDT + 0x31 * 16 + 4], 1   # on a stack of its own
        mov     byte ptr [IDT + 0x32 * 16 + 5], 0x6e
        lidt    [rip + idtr]
        mov     eax, TSS
        ltr     ax

        .macro  TRY code
        lea     r15, [rip + 8f]
        mov     [rip + resume], r15
        \code
        mov     al, '-'
        out     0xe9, al
8:
        .endm
        TRY     "xor edx, edx; xor ecx, ecx; mov eax, 1; div ecx"
        TRY     "int3"
        TRY     "int 0x30"
        TRY     "ud2"
        TRY     ".byte 0xce"
        TRY     ".byte 0x27"
        TRY     ".byte 0x9a, 0, 0, 0, 0, 8, 0"
        TRY     "mov eax, 0x1234; mov ds, eax"
        TRY     "mov eax, CODE32_3; mov ss, eax"
        TRY     "xor eax, eax; mov ss, eax"
        TRY     "xor eax, eax; mov ds, eax"
        TRY     "mov eax, TSS; ltr ax"
        TRY     "movabs rax, 0x800000000000; mov rax, [rax]"
        TRY     "movabs rax, 0xffff800000000000; mov rax, [rax]"
        TRY     "mov eax, 0x200010; mov [rax], rax"
        TRY     "mov eax, 0x201010; mov [rax], rax"
        TRY     "mov eax, 0x400010; mov dword ptr [rax], 0xc3; call rax"
        TRY     "mov eax, 0x203ffc; mov rbx, [rax]"
        TRY     "movabs rax, 0x800000000000; jmp rax"
        TRY     "mov ecx, 0xc0000080; rdmsr; mov ebx, eax; call print32"

        # where CR0.EM, CR0.TS and CR4.OSFXSR do not let SSE, MMX and the x87 be used (volume 3, 2.5)
        .macro  EXTENSIONS
        TRY     "movaps xmm1, xmm2"
        TRY     "addss xmm1, [rsp]"
        TRY     "paddb xmm1, xmm2"
        TRY     "ldmxcsr [0x800000]"
        TRY     "fnop"
        TRY     "mov eax, 0x203000; fxsave [rax]"
        TRY     "sfence"
        .endm
        fninit
        .irp    bits, 0, 4, 8
        mov     rax, cr0
        and     eax, ~12
        or      eax, \bits
        mov     cr0, rax
        EXTENSIONS
        .endr
        TRY     "paddb mm1, mm2"                # (QEMU 7.2 doesn't look at CR0.EM there, and not at all for EMMS)
        clts
        mov     rax, cr4
        and     eax, ~0x200
        mov     cr4, rax
        EXTENSIONS
        mov     rbx, [PML4]
        call    print32
        mov     rbx, [PML4 + 0x3008]
        call    print32
        mov     rbx, [PML4 + 0x3010]
        call    print32

        .macro  USER code
        mov     eax, DATA
        mov     ds, eax
        mov     es, eax
        lea     r15, [rip + 8f]
        mov     [rip + resume], r15
        push    DATA3
        push    STACK3
        push    0x0002
        push    CODE3
        lea     r15, [rip + 7f]
        push    r15
        iretq
7:      \code
        mov     al, '='
        out     0xe9, al
8:
        .endm
        USER    "hlt"
        USER    "int 0x30"
        USER    "int 0x31"
        USER    "mov eax, [0x203000]; ud2"
        USER    "mov eax, [0x202000]"
        USER    "mov dword ptr [0x201000], 1"
        USER    "mov eax, 0x400010; call rax"
        USER    "swapgs"
        USER    "wrmsr"
        USER    "mov ecx, 0x11111111; push rcx; popfq; ud2"

        # SYSCALL and SYSRET; the bases of FS and GS
        mov     ecx, 0xc0000081
        xor     eax, eax
        mov     edx, (CODE32_3 - 3) << 16 | 3 << 16 | CODE
        wrmsr
        mov     ecx, 0xc0000082
        lea     rax, [rip + entry]
        xor     edx, edx
        wrmsr
        mov     ecx, 0xc0000084
        mov     eax, 0x200
        wrmsr
        mov     ecx, 0xc0000101
        mov     eax, 0x203000
        wrmsr
        mov     ecx, 0xc0000102
        mov     eax, 0x203100
        wrmsr
        mov     dword ptr [0x203000], 0x55555555
        mov     dword ptr [0x203100], 0x66666666
        USER    "mov eax, 0x77; syscall; mov ebx, gs:[0]; ud2"

        # compatibility mode
        lea     rax, [rip + 8f]
        mov     [rip + resume], rax
        push    CODE32
        lea     rax, [rip + narrow]
        push    rax
        retfq
        .code32
narrow: mov     eax, 0x12345678
        inc     eax
        dec     ecx
        sub     esp, 4
        int     0x30
        .code64
8:      END     5

entry:  mov     r14, rsp
        mov     esp, STACK - 0x200
        mov     rbx, rcx
        sub     ebx, BASE
        call    print32
        mov     rbx, r11
        call    print32
        mov     ebx, cs
        call    print32
        mov     ebx, ss
        call    print32
        swapgs
        mov     ebx, gs:[0]
        call    print32
        swapgs
        mov     rsp, r14
        sysretq

print32:
        push    rax
        push    rcx
        mov     ecx, 8
1:      rol     ebx, 4
        mov     al, bl
        and     al, 15
        add     al, 0x30
        cmp     al, 0x39
        jbe     2f
        add     al, 7
2:      out     0xe9, al
        loop    1b
        mov     al, ' '
        out     0xe9, al
        pop     rcx
        pop     rax
        ret

        # exceptions: vector, the page fault's address, error code, ip, cs, flags without RF, stack pointer and segment
common: mov     al, 10
        out     0xe9, al
        pop     rbx
        mov     r12, rbx
        call    print32
        cmp     r12, 14
        jne     1f
        mov     rbx, cr2
        call    print32
1:      pop     rbx
        call    print32
        pop     rbx
        sub     rbx, BASE
        call    print32
        pop     rbx
        call    print32
        pop     rbx
        and     ebx, ~0x10000
        call    print32
        mov     ebx, ss
        call    print32
        pop     rbx
        call    print32
        pop     rbx
        call    print32
        mov     rbx, rsp
        call    print32
        mov     eax, DATA
        mov     ss, eax
        mov     ds, eax
        mov     esp, STACK
        jmp     [rip + resume]

        .balign 16
stubs:
        .set    vector, 0
        .rept   0x48
        .if     (vector == 8) | ((vector >= 10) & (vector <= 14)) | (vector == 17)
        .else
        push    0
        .endif
        push    vector
        jmp     common
        .balign 16
        .set    vector, vector + 1
        .endr

        .balign 8
resume: .quad   0
gdtr:   .word   gdt_end - gdt - 1
        .long   gdt + BASE
idtr:   .word   0x48 * 16 - 1
        .quad   IDT
        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff              # 64-bit code, level 0
        .quad   0x00cf93000000ffff              # data, level 0
        .quad   0x00cf9b000000ffff              # 32-bit code, level 0
        .quad   0x00cffb000000ffff              # 32-bit code, level 3
        .quad   0x00cff3000000ffff              # data, level 3
        .quad   0x00affb000000ffff              # 64-bit code, level 3
        .word   0x67, tss, 0x8901, 0
        .quad   0
gdt_end:
        .balign 8
tss:    .long   0
        .quad   STACK - 0x400, 0, 0, 0
        .quad   STACK_IST, 0, 0, 0, 0, 0, 0
        .quad   0
        .long   0x680000
