/* Memory and branches: the sieve of Eratosthenes, again and again. */
#include <stdio.h>
#include <string.h>

enum { LIMIT = 4 * 1024 * 1024, ROUNDS = 80 };
static unsigned char composite[LIMIT + 1];

int main(void) {
    unsigned total = 0;
    for (int round = 0; round < ROUNDS; round++) {
        memset(composite, 0, sizeof composite);
        for (unsigned i = 2; i * i <= LIMIT; i++)
            if (!composite[i])
                for (unsigned j = i * i; j <= LIMIT; j += i) composite[j] = 1;
        for (unsigned i = 2; i <= LIMIT; i++) total += !composite[i] * (i ^ round);
    }
    printf("sieve %u\n", total);
    return 0;
}
