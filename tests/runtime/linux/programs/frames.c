/* Signal frames without a C library: handlers, masks, alternate stacks, faults that handlers repair. */
typedef unsigned long word;
typedef unsigned int u32;
#define SA_SIGINFO 4
#define SA_ONSTACK 0x08000000
#define SA_NODEFER 0x40000000
#define SA_RESTORER 0x04000000
#define MAP_FIXED_ANONYMOUS_PRIVATE 0x32
enum { USR1 = 10, SEGV = 11, USR2 = 12 };

#if defined(__riscv)
enum { WRITE = 64, EXIT = 93, ACTION = 134, MASK = 135, STACK = 132, KILL = 129, GETPID = 172, MMAP = 222 };
static word call(word n, word a, word b, word c, word d, word e, word f) {
    register word r7 __asm__("a7") = n, r0 __asm__("a0") = a, r1 __asm__("a1") = b, r2 __asm__("a2") = c;
    register word r3 __asm__("a3") = d, r4 __asm__("a4") = e, r5 __asm__("a5") = f;
    __asm__ volatile("ecall" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
    return r0;
}
#elif defined(__aarch64__)
enum { WRITE = 64, EXIT = 93, ACTION = 134, MASK = 135, STACK = 132, KILL = 129, GETPID = 172, MMAP = 222 };
#define RESTORER
static word call(word n, word a, word b, word c, word d, word e, word f) {
    register word r7 __asm__("x8") = n, r0 __asm__("x0") = a, r1 __asm__("x1") = b, r2 __asm__("x2") = c;
    register word r3 __asm__("x3") = d, r4 __asm__("x4") = e, r5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
    return r0;
}
__asm__("restorer: mov x8, #139\n svc 0\n");
#elif defined(__arm__)
enum { WRITE = 4, EXIT = 1, ACTION = 174, MASK = 175, STACK = 186, KILL = 37, GETPID = 20, MMAP = 192 };
#define RESTORER
static word call(word n, word a, word b, word c, word d, word e, word f) {
    register word r7 __asm__("r7") = n, r0 __asm__("r0") = a, r1 __asm__("r1") = b, r2 __asm__("r2") = c;
    register word r3 __asm__("r3") = d, r4 __asm__("r4") = e, r5 __asm__("r5") = f;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
    return r0;
}
__asm__(".arm\nrestorer: mov r7, #173\n svc 0\n");
#elif defined(__x86_64__)
enum { WRITE = 1, EXIT = 60, ACTION = 13, MASK = 14, STACK = 131, KILL = 62, GETPID = 39, MMAP = 9 };
#define RESTORER
static word call(word n, word a, word b, word c, word d, word e, word f) {
    register word r3 __asm__("r10") = d, r4 __asm__("r8") = e, r5 __asm__("r9") = f;
    __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r3), "r"(r4), "r"(r5)
                     : "rcx", "r11", "memory");
    return n;
}
__asm__("restorer: mov $15, %eax\n syscall\n");
#elif defined(__i386__)
enum { WRITE = 4, EXIT = 1, ACTION = 174, MASK = 175, STACK = 186, KILL = 37, GETPID = 20, MMAP = 192 };
#define RESTORER
static word call(word n, word a, word b, word c, word d, word e, word f) {
    __asm__ volatile("int $0x80" : "+a"(n) : "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return n;
}
__asm__("restorer: mov $173, %eax\n int $0x80\n");
#elif defined(__powerpc__)
enum { WRITE = 4, EXIT = 1, ACTION = 173, MASK = 174, STACK = 185, KILL = 37, GETPID = 20, MMAP = 90 };
static word call(word n, word a, word b, word c, word d, word e, word f) {
    register word r7 __asm__("r0") = n, r0 __asm__("r3") = a, r1 __asm__("r4") = b, r2 __asm__("r5") = c;
    register word r3 __asm__("r6") = d, r4 __asm__("r7") = e, r5 __asm__("r8") = f;
    __asm__ volatile("sc" : "+r"(r7), "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5) : : "memory", "cr0", "ctr", "xer", "r9", "r10", "r11", "r12");
    return r0;
}
#elif defined(__sparc__)
enum { WRITE = 4, EXIT = 1, ACTION = 102, MASK = 103, STACK = 28, KILL = 37, GETPID = 20, MMAP = 71 };
#define RESTORER
#ifdef __arch64__
#define TRAP "t 0x6d"
#else
#define TRAP "t 0x10"
#endif
static word call(word n, word a, word b, word c, word d, word e, word f) {
    register word r7 __asm__("g1") = n, r0 __asm__("o0") = a, r1 __asm__("o1") = b, r2 __asm__("o2") = c;
    register word r3 __asm__("o3") = d, r4 __asm__("o4") = e, r5 __asm__("o5") = f;
    __asm__ volatile(TRAP : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory", "cc");
    return r0;
}
__asm__("restorer: mov 101, %g1\n " TRAP "\n nop\n");
#endif
#ifdef __sparc__
#undef MAP_FIXED_ANONYMOUS_PRIVATE
#define MAP_FIXED_ANONYMOUS_PRIVATE 0x32
enum { SIG_BLOCK_ = 1, SIG_UNBLOCK_ = 2, USR1_ = 30, USR2_ = 31, SEGV_ = 11 };
#define SA_ONSTACK_ 1
#define SA_SIGINFO_ 0x200
#else
enum { SIG_BLOCK_ = 0, SIG_UNBLOCK_ = 1, USR1_ = 10, USR2_ = 12, SEGV_ = 11 };
#define SA_ONSTACK_ SA_ONSTACK
#define SA_SIGINFO_ SA_SIGINFO
#endif

struct action {
    void (*handler)(int, void *, void *);
    word flags;
#if !defined(__riscv)
    word restorer;
#endif
    u32 mask[2];
};
#ifdef RESTORER
extern char restorer[];
#endif

static void text(const char *s) {
    word n = 0;
    while (s[n]) n++;
    call(WRITE, 1, (word)s, n, 0, 0, 0);
}
static void number(word v) {
    char b[24];
    int i = 23;
    b[i] = 0;
    do b[--i] = "0123456789abcdef"[v & 15]; while (v >>= 4);
    text(b + i);
    text(" ");
}
static void act(int n, void (*f)(int, void *, void *), word flags, u32 mask) {
    struct action a = {f, flags};
    a.mask[0] = a.mask[1] = 0;
    if (sizeof(word) == 8) *(word *)a.mask = mask; else a.mask[0] = mask;
#ifdef __sparc__
    call(ACTION, n, (word)&a, 0, (word)restorer - 8, 8, 0);
    return;
#endif
#ifdef RESTORER
    a.flags |= SA_RESTORER;
    a.restorer = (word)restorer;
#endif
    call(ACTION, n, (word)&a, 0, 8, 0, 0);
}
static void send(int n) { call(KILL, call(GETPID, 0, 0, 0, 0, 0, 0), n, 0, 0, 0, 0); }

static char other[65536] __attribute__((aligned(16)));
static int depth, on_other;

static void on_usr1(int n, void *information, void *context) {
    int here;
    on_other = (char *)&here > other && (char *)&here < other + sizeof other;
    depth++;
    text("usr1 ");
    number(n == USR1_);
    number(*(int *)information == n);
    number(depth);
    if (depth == 1) send(USR2_);
    text("left\n");
    depth--;
}
static void on_usr2(int n, void *information, void *context) {
    text("usr2 ");
    number(n == USR2_);
}
static char *hole = (char *)0x20000000;
static void on_segv(int n, void *information, void *context) {
    text("segv ");
    number(((word *)information)[sizeof(word) == 8 ? 2 : 3]);
    call(MMAP, (word)hole, 8192, 3, MAP_FIXED_ANONYMOUS_PRIVATE, -1, 0);
}
static void on_plain(int n) {
    text("plain ");
    number(n == USR2_);
}

int work(int seed) {
    word a = seed, b = a * 3, c = b ^ 5, d = c + a, e = d * 7, f = e ^ b, g = f + c, h = g * 11;
    for (int i = 0; i < 50; i++) {
        a += b; b ^= c; c += d; d ^= e; e += f; f ^= g; g += h; h ^= a;
        if (i == 25) send(USR1_);
    }
    return (a ^ b ^ c ^ d ^ e ^ f ^ g ^ h) & 0x7fffffff;
}

void begin(void) {
    act(USR1_, on_usr1, SA_SIGINFO_, 0);
    act(USR2_, on_usr2, SA_SIGINFO_, 0);
    number(work(1));
    text("\n");
    act(USR1_, on_usr1, SA_SIGINFO_, 1u << (USR2_ - 1));
    number(work(2));
    text("\n");
    struct { void *at; int flags; word size; } stack = {other, 0, sizeof other};
    call(STACK, (word)&stack, 0, 0, 0, 0, 0);
    act(USR1_, on_usr1, SA_SIGINFO_ | SA_ONSTACK_, 0);
    number(work(3));
    number(on_other);
    text("\n");
    u32 mask[2] = {0, 0};
    if (sizeof(word) == 8) *(word *)mask = 1u << (USR1_ - 1); else mask[0] = 1u << (USR1_ - 1);
    call(MASK, SIG_BLOCK_, (word)mask, 0, 8, 0, 0);
    send(USR1_);
    text("blocked\n");
    call(MASK, SIG_UNBLOCK_, (word)mask, 0, 8, 0, 0);
    text("unblocked\n");
    act(SEGV_, on_segv, SA_SIGINFO_, 0);
    hole[64] = 5;
    number(hole[64] + hole[65]);
    text("\n");
#if !defined(__sparc__) && !defined(__arm__) && !defined(__i386__)
    act(USR2_, (void (*)(int, void *, void *))on_plain, 0, 0);
    send(USR2_);
#endif
    number(work(4));
    text("\nend\n");
    call(EXIT, 7, 0, 0, 0, 0, 0);
}

#if defined(__sparc__)
__asm__(".globl _start\n_start: mov 0, %fp\n call begin\n sub %sp, 192, %sp\n");
#elif defined(__powerpc64__) && _CALL_ELF != 2
__asm__(".section .opd,\"aw\"\n.globl _start\n_start: .quad code, .TOC.@tocbase, 0\n.text\ncode: bl begin\n nop\n");
#elif defined(__powerpc64__)
__asm__(".globl _start\n_start: addis 2, 12, .TOC.-_start@ha\n addi 2, 2, .TOC.-_start@l\n bl begin\n nop\n");
#elif defined(__i386__) || defined(__x86_64__)
__asm__(".globl _start\n_start: call begin\n");
#elif defined(__powerpc__)
__asm__(".globl _start\n_start: bl begin\n");
#elif defined(__riscv)
__asm__(".globl _start\n_start: .option push\n.option norelax\n la gp, __global_pointer$\n.option pop\n call begin\n");
#else
__asm__(".globl _start\n_start: bl begin\n");
#endif
