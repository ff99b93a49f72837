/* Work, the console, a signature. Ends with code 7, or as a MODE asks. */
#include "compute.h"
extern volatile u64 tohost, fromhost;
extern unsigned begin_signature[8];
volatile u64 call[8] __attribute__((aligned(64)));

static long print(const char *text) {
    long n = 0;
    while (text[n]) n++;
    call[0] = 64, call[1] = 1, call[2] = (u64)(unsigned long)text, call[3] = n;
    __sync_synchronize();
    tohost = (unsigned long)call;
    while (!fromhost) {}
    fromhost = 0;
    return (long)call[0];
}

int main(void) {
    compute(begin_signature);
    begin_signature[6] = (unsigned)print("hello from the machine\n");
    begin_signature[7] = sizeof(long);
#ifdef MODE_ILLEGAL
    asm volatile(".4byte 0xffffffff");
#endif
#ifdef MODE_LOOP
    for (;;) {}
#endif
#ifdef MODE_LOST
    asm volatile("csrw mtvec, zero; jr zero");
#endif
    return 7;
}
