# Protected mode: exceptions with their error codes, privilege levels, gates, tasks, virtual-8086 mode, paging.
        .include "start.inc"

        .equ    CODE, 0x08
        .equ    DATA, 0x10
        .equ    CODE3, 0x1b
        .equ    DATA3, 0x23
        .equ    TSS1, 0x28
        .equ    TSS2, 0x30
        .equ    ABSENT, 0x38
        .equ    GATE, 0x43
        .equ    READONLY, 0x48
        .equ    TASKGATE, 0x50
        .equ    STACK, 0xc000
        .equ    STACK3, 0xd000
        .equ    STACK_TASK, 0xd800
        .equ    IDT, 0xe000
        .equ    PAGES, 0x100000 - BASE

main16:
        lgdt    [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        .byte   0x66, 0xea                      # jmp CODE:main32
        .long   main32
        .word   CODE

        .code32
main32:
        mov     ax, DATA
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     esp, STACK
        # the IDT: interrupt gates to the stubs; 3, 4 and 0x30 to 0x3f for everybody, 0x40 a task gate, 0x41 absent
        mov     edi, IDT
        mov     eax, offset stubs
        xor     ecx, ecx
1:      mov     [edi], ax
        mov     word ptr [edi + 2], CODE
        mov     word ptr [edi + 4], 0x8e00
        cmp     ecx, 0x30
        jae     2f
        cmp     ecx, 3
        jb      3f
        cmp     ecx, 4
        ja      3f
2:      mov     byte ptr [edi + 5], 0xee
3:      mov     edx, eax
        shr     edx, 16
        mov     [edi + 6], dx
        add     edi, 8
        add     eax, 16
        inc     ecx
        cmp     ecx, 0x48
        jb      1b
        mov     dword ptr [IDT + 0x40 * 8], TSS2 << 16
        mov     dword ptr [IDT + 0x40 * 8 + 4], 0xe500
        mov     byte ptr [IDT + 0x41 * 8 + 5], 0x6e
        mov     byte ptr [IDT + 0x42 * 8 + 5], 0xef         # a trap gate
        lidt    [idtr]
        mov     ax, TSS1
        ltr     ax

        .macro  TRY code
        mov     dword ptr [resume], offset 8f
        \code
        mov     al, '-'
        out     0xe9, al
8:
        .endm

        TRY     "xor edx, edx; xor ecx, ecx; mov eax, 1; div ecx"
        TRY     "int3"
        TRY     "int 0x30"
        TRY     "int 0x42"
        TRY     "int 0x41"
        TRY     "int 0x60"
        TRY     "mov al, 0x7f; add al, 1; into"
        TRY     "mov eax, 5; bound eax, [bounds]"
        TRY     "ud2"
        TRY     ".byte 0xf0, 0x90"
        TRY     "mov ax, 0x1234; mov ds, ax"
        TRY     "mov ax, ABSENT; mov ds, ax"
        TRY     "mov ax, ABSENT; mov ss, ax"
        TRY     "mov ax, READONLY; mov ss, ax"
        TRY     "mov ax, TSS1; mov es, ax"
        TRY     "xor ax, ax; mov ss, ax"
        TRY     "xor ax, ax; mov fs, ax"
        TRY     "ljmp 0, 0"
        TRY     "ljmp DATA, 0"
        TRY     "ljmp ABSENT, 0"
        TRY     "ljmp CODE3, 0"
        TRY     "mov ax, TSS1; ltr ax"
        TRY     "mov ax, DATA; ltr ax"
        TRY     "mov ax, DATA; lldt ax"
        TRY     ".byte 0x0f, 0x20, 0xc8"
        TRY     "push 0x2; push 0x1234; push offset 8f; iretd"
        # what selectors allow
        .macro  SHOW code
        \code
        pushfd
        pop     ebx
        and     ebx, 0x40
        call    print32
        mov     ebx, eax
        call    print32
        .endm
        xor     eax, eax
        mov     ecx, CODE
        SHOW    "lar eax, ecx"
        SHOW    "lsl eax, ecx"
        SHOW    "verr cx"
        SHOW    "verw cx"
        mov     ecx, TSS2
        SHOW    "lar eax, ecx"
        SHOW    "lsl eax, ecx"
        mov     ecx, GATE
        SHOW    "lar eax, ecx"
        SHOW    "lsl eax, ecx"
        mov     ecx, 0x1234
        SHOW    "lar eax, ecx"
        mov     ecx, READONLY
        SHOW    "verr cx"
        SHOW    "verw cx"
        mov     eax, 0x8
        mov     ecx, 3
        SHOW    "arpl ax, cx"
        SHOW    "smsw ax"
        xor     eax, eax
        SHOW    "str ax"
        SHOW    "sldt ax"
        # level 3
        mov     dword ptr [resume], offset back1
        push    DATA3
        push    STACK3
        push    0x3002
        push    CODE3
        push    offset user1
        iretd
user1:  mov     ax, DATA3
        mov     ds, ax
        mov     es, ax
        hlt
back1:
        .macro  USER code
        mov     ax, DATA
        mov     ds, ax
        mov     es, ax
        mov     dword ptr [resume], offset 8f
        push    DATA3
        push    STACK3
        push    0x0002
        push    CODE3
        push    offset 7f
        iretd
7:      mov     ax, DATA3
        mov     ds, ax
        mov     es, ax
        \code
        mov     al, '='
        out     0xe9, al
8:
        .endm
        USER    "cli"
        USER    "in al, 0x80"
        USER    "out 0xe9, al"
        USER    "int 0x30"
        USER    "int 0x20"
        USER    "int3"
        USER    "mov eax, cr0"
        USER    "mov ax, DATA; mov ds, ax"
        USER    "ljmp CODE, 0"
        USER    "push DATA3; push 0x3000; push CODE; push 0; lret"
        USER    "lcall GATE, 0"
        USER    "sgdt [STACK3]; ud2"
        USER    "popfd; ud2"
        USER    "pushfd; or dword ptr [esp], 0x3200; popfd; pushfd; pop ebx; ud2"
        # through a call gate and back
        mov     ax, DATA
        mov     ds, ax
        mov     es, ax
        mov     eax, offset inner
        mov     [gate_target], ax
        shr     eax, 16
        mov     [gate_target + 6], ax
        mov     dword ptr [resume], offset back2
        push    DATA3
        push    STACK3
        push    0x3002
        push    CODE3
        push    offset user2
        iretd
user2:  push    0x11111111
        push    0x22222222
        lcall   GATE, 0
        mov     ebx, esp
        call    print32
        ud2
inner:  mov     ebx, [esp + 8]
        call    print32
        mov     ebx, [esp + 12]
        call    print32
        mov     ebx, cs
        call    print32
        mov     ebx, [esp + 4]
        call    print32
        lret    8
back2:
        # tasks: by a jump, a call, an interrupt
        mov     ax, DATA
        mov     ds, ax
        mov     es, ax
        call    prepare_task
        lcall   TSS2, 0
        str     bx
        call    print16
        pushfd
        pop     ebx
        and     ebx, 0xffff
        call    print32
        call    prepare_task
        int     0x40
        str     bx
        call    print16
        call    prepare_task
        lcall   TASKGATE, 0
        str     bx
        call    print16
        mov     eax, cr0
        and     eax, 8
        mov     ebx, eax
        call    print32
        clts

        # virtual-8086 mode: int 0x30 by way of the IDT, a fault at cli
        .macro  V86 flags, code
        mov     dword ptr [resume], offset 8f
        push    0x1111
        push    0x2222
        push    0x3333
        push    0x4444
        push    0x1000
        push    0xd000
        push    0x20002 | \flags
        push    0x1000
        push    offset 7f
        iretd
        .code16
7:      \code
        hlt
        .code32
8:
        .endm
        V86     0, "mov bx, cs"
        V86     0, "cli"
        V86     0x3000, "cli; push cs; pop ds; int 0x30"
        V86     0, "int 0x30"
        V86     0, "pushf"
        # paging: page directory at PAGES, the first 4 MiB mapped one to one
        mov     ax, DATA
        mov     ds, ax
        mov     es, ax
        cld
        mov     edi, PAGES
        mov     ecx, 1024
        xor     eax, eax
        rep     stosd
        mov     ecx, 1024
        mov     eax, 7
1:      stosd
        add     eax, 0x1000
        loop    1b
        mov     dword ptr [PAGES], PAGES + BASE + 0x1000 + 7
        mov     dword ptr [PAGES + 0x1000 + 0x200 * 4], 0                   # 0x200000: absent
        mov     dword ptr [PAGES + 0x1000 + 0x201 * 4], 0x201000 + 5        # 0x201000: not writable
        mov     dword ptr [PAGES + 0x1000 + 0x202 * 4], 0x202000 + 3        # 0x202000: not for users
        mov     eax, PAGES + BASE
        mov     cr3, eax
        mov     eax, cr4
        or      eax, 0x10
        mov     cr4, eax
        mov     dword ptr [PAGES + 4], 0x400000 + 0x83                      # 4 MiB
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        TRY     "mov eax, [0x200010 - BASE]"
        TRY     "mov dword ptr [0x200ffe - BASE], 0"
        TRY     "mov dword ptr [0x201004 - BASE], 0"
        TRY     "mov eax, 0x12345678; mov [0x400000 - BASE], eax; mov ebx, [0x400000 - BASE]; call print32"
        TRY     "mov eax, 0x200000 - BASE; jmp eax"
        TRY     "mov eax, [0x80000000 - BASE]"
        mov     eax, cr0
        or      eax, 0x10000
        mov     cr0, eax
        TRY     "mov dword ptr [0x201004 - BASE], 0"
        TRY     "mov dword ptr [0x203004 - BASE], 5"
        mov     ebx, [PAGES + 0x1000 + 0x203 * 4]
        call    print32
        mov     eax, [0x204000 - BASE]
        mov     ebx, [PAGES + 0x1000 + 0x204 * 4]
        call    print32
        mov     ebx, [PAGES]
        call    print32
        USER    "mov eax, [0x200010 - BASE]"
        USER    "mov eax, [0x202010 - BASE]"
        USER    "mov dword ptr [0x202010 - BASE], 1"
        USER    "mov dword ptr [0x201010 - BASE], 1"
        USER    "mov eax, [0x400000 - BASE]"
        mov     ax, DATA
        mov     ds, ax
        mov     dword ptr [PAGES + 0x1000 + 0x200 * 4], 0x200007
        invlpg  [0x200000 - BASE]
        TRY     "mov eax, [0x200010 - BASE]"
        END     3

prepare_task:
        mov     dword ptr [tss2 + 0x20], offset task_code
        mov     dword ptr [tss2 + 0x24], 2
        mov     dword ptr [tss2 + 0x38], STACK_TASK
        ret
task_code:
        str     bx
        call    print16
        mov     ebx, [tss2]
        call    print16
        pushfd
        pop     ebx
        and     ebx, 0x4000
        call    print32
        mov     ebx, esp
        call    print32
        iretd
        hlt

print16:
        push    eax
        push    ecx
        shl     ebx, 16
        mov     ecx, 4
        jmp     1f
print32:
        push    eax
        push    ecx
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
        pop     ecx
        pop     eax
        ret

        # exceptions: vector, error code, ip, cs, flags without RF, and the stack's pointer
common: cld
        push    DATA
        pop     ds
        mov     al, 10
        out     0xe9, al
        pop     ebx
        cmp     ebx, 14
        pushfd
        call    print16
        popfd
        jne     1f
        mov     ebx, cr2
        call    print32
1:      pop     ebx
        call    print32
        pop     ebx
        call    print32
        pop     ebx
        call    print32
        pop     ebx
        and     ebx, ~0x10000
        call    print32
        mov     ebx, esp
        call    print32
        mov     ax, DATA
        mov     ss, ax
        mov     es, ax
        mov     esp, STACK
        jmp     [resume]

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
resume: .long   0
bounds: .long   1, 4
gdtr:   .word   gdt_end - gdt - 1
        .long   gdt + BASE
idtr:   .word   0x48 * 8 - 1
        .long   IDT + BASE
        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b010000ffff              # code, level 0
        .quad   0x00cf93010000ffff              # data, level 0
        .quad   0x00cffb010000ffff              # code, level 3
        .quad   0x00cff3010000ffff              # data, level 3
        .word   0x67, tss1, 0x8901, 0
        .word   0x67, tss2, 0x8901, 0
        .quad   0x00cf13010000ffff              # absent data
gate_target:
        .word   0, CODE, 0xec02, 0              # a call gate with two parameters
        .quad   0x00cf91010000ffff              # data that can't be written
        .word   0, TSS2, 0x8500, 0              # a task gate
gdt_end:
        .balign 8
tss1:   .long   0, STACK - 0x400, DATA
        .fill   0x5c, 1, 0
tss2:   .long   0, STACK - 0x800, DATA, 0, 0, 0, 0, 0
        .long   task_code, 2, 0, 0, 0, 0, STACK_TASK, 0, 0, 0
        .long   DATA, CODE, DATA, DATA, DATA, DATA, 0, 0x680000
