/* What faults how: page faults' error codes, addresses and registers of instructions that read and then write, that lie
   over two pages, or that repeat themselves. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static unsigned char *base;
static volatile unsigned long error, address, count, target, flags, sum;
extern char resume[];

static void handler(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    error = r[REG_ERR];
    address = (unsigned long)info->si_addr - (unsigned long)base;
    count = r[REG_RCX];
    target = r[REG_RDI] - (unsigned long)base;
    flags = r[REG_EFL] & 0x8d5;
    sum = r[REG_RAX];
    r[REG_RIP] = r[REG_R12];
    (void)number;
}

/* pages: 0 all, 1 read only, 2 none, 3 all */
#define TRY(name, where, text)                                                                                        \
    do {                                                                                                              \
        memset(base, 0x5a, 4096), memset(base + 3 * 4096, 0xa5, 4096);                                                \
        error = 99, address = count = target = flags = sum = 0;                                                       \
        unsigned long di = (unsigned long)base + (where), cx = 100, si = (unsigned long)base + 3 * 4096, ax = 5;      \
        __asm__ volatile("mov %%rsp, %%r13\n\tlea 1f(%%rip), %%r12\n\txor %%edx, %%edx\n\tmov $1, %%ebx\n\tstc\n\t" text "\n1:\tcld\n\tmov %%r13, %%rsp" \
                         : "+D"(di), "+c"(cx), "+S"(si), "+a"(ax)                                                     \
                         :                                                                                            \
                         : "rbx", "rdx", "r12", "r13", "memory", "cc", "st");                                                \
        unsigned long h = 0;                                                                                          \
        for (int i = 0; i < 4096; i++) h = h * 31 + base[i];                                                          \
        printf("%s: %ld %ld cx %ld di %ld flags %lx ax %ld memory %lx\n", name, error, address, count, target, flags, \
               sum, h);                                                                                               \
    } while (0)

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, 0);
    base = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(base, 1, 4 * 4096);
    mprotect(base + 4096, 4096, PROT_READ);
    mprotect(base + 2 * 4096, 4096, PROT_NONE);
    TRY("mov from", 4096, "mov (%%rdi), %%edx");
    TRY("mov from none", 8192, "mov (%%rdi), %%edx");
    TRY("mov to", 4096, "mov %%eax, (%%rdi)");
    TRY("mov to none", 8192, "mov %%eax, (%%rdi)");
    TRY("add", 4096, "add %%eax, (%%rdi)");
    TRY("add none", 8192, "add %%eax, (%%rdi)");
    TRY("add from none", 8192, "add (%%rdi), %%eax");
    TRY("cmp none", 8192, "cmp %%eax, (%%rdi)");
    TRY("test none", 8192, "testb $1, (%%rdi)");
    TRY("adc over", 4094, "adcl $7, (%%rdi)");
    TRY("sub over two", 8190, "sub %%rax, (%%rdi)");
    TRY("mov over", 4093, "mov %%rax, (%%rdi)");
    TRY("inc", 4100, "incl (%%rdi)");
    TRY("neg", 4100, "negw (%%rdi)");
    TRY("not", 4100, "notb (%%rdi)");
    TRY("shl", 4100, "shll $3, (%%rdi)");
    TRY("shl by 0", 4100, "xor %%ecx, %%ecx; shll %%cl, (%%rdi)");
    TRY("rcr", 4100, "rcrq $1, (%%rdi)");
    TRY("shld", 4100, "shld $4, %%eax, (%%rdi)");
    TRY("bts", 4096, "bts $4, (%%rdi)");
    TRY("bt", 8192, "bt $4, (%%rdi)");
    TRY("btc far", 0, "mov $32768, %%eax; btc %%rax, (%%rdi)");
    TRY("xchg", 4096, "xchg %%eax, (%%rdi)");
    TRY("xadd", 4096, "xadd %%eax, (%%rdi)");
    TRY("lock add", 4096, "lock add %%eax, (%%rdi)");
    TRY("cmpxchg, other", 4096, "cmpxchg %%ebx, (%%rdi)");
    TRY("cmpxchg, same", 4096, "mov $0x01010101, %%eax; cmpxchg %%ebx, (%%rdi)");
    TRY("cmpxchg8b", 4096, "cmpxchg8b (%%rdi)");
    TRY("cmpxchg16b", 4096, "lock cmpxchg16b (%%rdi)");
    TRY("sete", 4096, "sete (%%rdi)");
    TRY("push from none", 8192, "push (%%rdi); pop %%rdx");
    TRY("pop to", 4096, "push %%rdx; pop (%%rdi); jmp 1f; .byte 0");
    TRY("movs", 4096, "movsl");
    TRY("movs, source", 0, "mov %%rdi, %%rsi; add $8192, %%rsi; movsl");
    TRY("rep movsb", 4000, "rep movsb");
    TRY("rep movsw over", 3999, "rep movsw");
    TRY("rep movsq", 3000, "mov $400, %%ecx; rep movsq");
    TRY("rep stosb", 4090, "rep stosb");
    TRY("rep stosq over", 3500, "rep stosq");
    TRY("rep stosl down", 100, "std; add $4, %%rdi; mov $4000, %%ecx; rep stosl");
    TRY("rep movsb, source", 0, "lea 4190(%%rdi), %%rsi; mov $5000, %%ecx; rep movsb");
    TRY("repe cmpsb", 4000, "lea 4096(%%rdi), %%rsi; mov %%rdi, %%rbx; add $192, %%rdi; mov $5000, %%ecx; repe cmpsb");
    TRY("repne scasb", 4000, "mov $5000, %%ecx; repne scasb");
    TRY("movaps", 4096, "movaps %%xmm0, (%%rdi)");
    TRY("movups over", 4090, "movups %%xmm0, (%%rdi)");
    TRY("fstp", 4096, "fldz; fstpl (%%rdi); fstp %%st");
    TRY("fbstp over", 4090, "fldz; fbstp (%%rdi)");
    TRY("jump to none", 8192, "jmp *%%rdi");
    TRY("jump to what can't be executed", 4096, "jmp *%%rdi");
    return 0;
}
