/* Threads that run at the same time: what they share must come out as if they had taken turns. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define TURNS 3000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER, emptied = PTHREAD_COND_INITIALIZER;
static pthread_spinlock_t spin;
static long locked, spun, queue[4], sum;
static int head, tail;
static atomic_long added, swapped, handled;
static _Atomic unsigned char byte;
static _Atomic unsigned short half;
static atomic_int stop;

static void *count(void *p) {
    for (int i = 0; i < TURNS; i++) {
        pthread_mutex_lock(&lock);
        locked++;
        pthread_mutex_unlock(&lock);
        atomic_fetch_add(&added, 3);
        long seen = atomic_load(&swapped);
        while (!atomic_compare_exchange_weak(&swapped, &seen, seen + 1));
        atomic_fetch_add(&byte, 1);
        atomic_fetch_xor(&half, (unsigned short)(i * 77));
        pthread_spin_lock(&spin);
        spun++;
        pthread_spin_unlock(&spin);
    }
    return p;
}

static void *produce(void *p) {
    for (long i = 1; i <= 500; i++) {
        pthread_mutex_lock(&lock);
        while (head - tail == 4) pthread_cond_wait(&emptied, &lock);
        queue[head++ % 4] = i;
        pthread_cond_signal(&filled);
        pthread_mutex_unlock(&lock);
    }
    return p;
}

static void *consume(void *p) {
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&lock);
        while (head == tail) pthread_cond_wait(&filled, &lock);
        sum += queue[tail++ % 4];
        pthread_cond_signal(&emptied);
        pthread_mutex_unlock(&lock);
    }
    return p;
}

static void handler(int number) { atomic_fetch_add(&handled, 1); }
static void *work(void *p) {
    volatile long own = 0;
    while (!atomic_load(&stop)) own++;
    return p;
}
static void *nothing(void *p) { return p; }

/* Memory that comes and goes beside others' own. */
static void *churn(void *p) {
    long wrong = 0;
    for (int i = 0; i < 60; i++) {
        size_t size = 4096 * (1 + i % 5);
        char *m = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(m, i, size);
        mprotect(m, 4096, PROT_READ);
        for (size_t k = 0; k < size; k += 512) wrong += m[k] != (char)i;
        munmap(m, size);
        char *h = malloc(100 + 1000 * (i % 7));
        strcpy(h, "kept");
        wrong += strcmp(h, "kept") != 0;
        free(h);
    }
    return (void *)wrong;
}

static void *fork_one(void *p) {
    pid_t pid = fork();
    if (!pid) {
        pthread_t t;
        void *result;
        pthread_create(&t, 0, nothing, (void *)5);
        pthread_join(t, &result);
        _exit(10 + (int)(long)result);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR);
    return (void *)(long)WEXITSTATUS(status);
}

static long all(int n, void *(*function)(void *)) {
    pthread_t t[THREADS];
    long total = 0;
    for (int i = 0; i < n; i++) pthread_create(&t[i], 0, function, 0);
    for (int i = 0; i < n; i++) {
        void *result;
        pthread_join(t[i], &result);
        total += (long)result;
    }
    return total;
}

int main(int argc, char **argv) {
    pthread_t t[THREADS];
    setvbuf(stdout, 0, _IOLBF, 0);
    pthread_spin_init(&spin, 0);
    all(THREADS, count);
    printf("counted %ld %ld %ld %d %d %ld\n", locked, (long)added, (long)swapped, byte, half, spun);
    for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, i % 2 ? produce : consume, 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    printf("consumed %ld\n", sum);
    for (int i = 0; i < 100; i++) {
        pthread_create(&t[0], 0, nothing, 0);
        pthread_create(&t[1], 0, nothing, 0);
        pthread_join(t[0], 0);
        pthread_join(t[1], 0);
    }
    printf("joined\n");
    signal(SIGUSR1, handler);
    for (int i = 0; i < 3; i++) pthread_create(&t[i], 0, work, 0);
    for (int i = 0; i < 30; i++) {
        long before = atomic_load(&handled);
        pthread_kill(t[i % 3], SIGUSR1);
        while (atomic_load(&handled) == before) usleep(100);
    }
    printf("handled %ld\n", (long)handled);
    printf("forked %ld\n", all(4, fork_one));
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
    printf("churned %ld\n", all(THREADS, churn));
    atomic_store(&stop, 0);
    for (int i = 0; i < 3; i++) pthread_create(&t[i], 0, work, 0);
    if (argc > 1) execl(argv[1], argv[1], (char *)0);
    exit(3);
}
