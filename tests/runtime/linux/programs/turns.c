/* Threads that print without agreeing on an order. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static void *print(void *p) {
    volatile unsigned work = 0;
    for (int i = 0; i < 20; i++) {
        char text[20];
        for (int j = 0; j < 3000 + 4000 * (long)p; j++) work += j;
        write(1, text, snprintf(text, sizeof text, "%ld %d\n", (long)p, i));
    }
    return 0;
}
int main(void) {
    pthread_t t[3];
    for (long i = 0; i < 3; i++) pthread_create(t + i, 0, print, (void *)i);
    for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
    return 0;
}
