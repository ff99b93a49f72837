/* Memory: pointer chasing through a shuffled list, and copies. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { NODES = 1 << 15, ROUNDS = 7500 };
struct node { struct node *next; uint64_t value; };
static struct node nodes[NODES];
static char from[1 << 16], to[1 << 16];

int main(void) {
    uint32_t seed = 99, order[NODES / 1];
    for (uint32_t i = 0; i < NODES; i++) order[i] = i;
    for (uint32_t i = NODES - 1; i > 0; i--) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t j = (uint32_t)((uint64_t)seed * (i + 1) >> 32), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
        nodes[order[i]].value = i;
    }
    uint64_t sum = 0;
    struct node *p = nodes;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < NODES; i++) { sum += p->value ^ round; p = p->next; }
        memcpy(to, from, sizeof to);
        from[round % sizeof from] = to[(round * 7) % sizeof to] + 1;
    }
    printf("list %llu %d\n", (unsigned long long)sum, to[5]);
    return 0;
}
