/* The numbers as the host computes them. */
#include <stdio.h>
#include "compute.h"
int main(void) {
    unsigned out[6];
    compute(out);
    for (int i = 0; i < 6; i++) printf("%08x\n", out[i]);
}
