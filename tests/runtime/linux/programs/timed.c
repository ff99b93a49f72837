/* Threads that calculate while another waits for a while, again and again. Without an argument it first turns
   into itself, so that what came before is forgotten. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int done, wrong;

static unsigned work(unsigned seed) {
    unsigned char bytes[512];
    unsigned x = seed, sums[256] = {0};
    for (int i = 0; i < 512; i++) { x = x * 1664525 + 1013904223; bytes[i] = x >> 24; }
    for (int k = 0; k < 60; k++)
        for (int i = 0; i < 512; i++) {
            sums[bytes[i]] += i ^ k;
            x = bytes[i] < bytes[(i + k) & 511] ? x ^ sums[bytes[i]] : x * 33 + bytes[i];
        }
    return x;
}

static void *run(void *seed) {
    unsigned first = work((long)seed), differ = 0;
    for (int i = 0; i < 30; i++) differ += work((long)seed) != first;
    pthread_mutex_lock(&lock);
    done++;
    wrong += differ;
    pthread_mutex_unlock(&lock);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 1) { execl("/proc/self/exe", argv[0], "again", (char *)0); return 1; }
    pthread_t threads[2];
    int others = 0;
    for (long i = 0; i < 2; i++) pthread_create(threads + i, 0, run, (void *)(i + 1));
    pthread_mutex_lock(&lock);
    while (done < 2) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += 1000000;
        if (soon.tv_nsec >= 1000000000) { soon.tv_nsec -= 1000000000; soon.tv_sec++; }
        others += pthread_cond_timedwait(&changed, &lock, &soon) != ETIMEDOUT;
    }
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
    printf("wrong %d, woken %d\n", wrong, others);
    return 0;
}
