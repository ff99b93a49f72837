/* POSIX threads: what the C library builds on clone, futex and friends. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long total, waiting;
static __thread int own = 7;
static pthread_key_t key;
static int destroyed;
static pthread_barrier_t barrier;
static pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int initialized;
static sem_t items, spaces;
static int ring[4], head, tail;

static void destroy(void *p) { __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST); }
static void initialize(void) { initialized++; }

static void *add(void *p) {
    pthread_setspecific(key, p);
    pthread_once(&once, initialize);
    own += (long)p;
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&lock);
        total += (long)p;
        pthread_mutex_unlock(&lock);
        __atomic_add_fetch(&waiting, 1, __ATOMIC_RELAXED);
        if (i % 500 == 0) sched_yield();
    }
    pthread_barrier_wait(&barrier);
    return (void *)(long)own;
}

static int turn;
static void *ping(void *p) {
    int me = (long)p;
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&lock);
        while (turn != me) pthread_cond_wait(&changed, &lock);
        turn = 1 - me;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}

static void *produce(void *p) {
    for (int i = 1; i <= 100; i++) {
        sem_wait(&spaces);
        ring[head++ % 4] = i;
        sem_post(&items);
    }
    return 0;
}
static void *consume(void *p) {
    long sum = 0;
    for (int i = 1; i <= 100; i++) {
        sem_wait(&items);
        sum += ring[tail++ % 4];
        sem_post(&spaces);
    }
    return (void *)sum;
}
static void *sleeper(void *p) {
    for (;;) pause();
}
static void *reader(void *p) {
    pthread_rwlock_rdlock(&shared);
    usleep(1000);
    pthread_rwlock_unlock(&shared);
    return 0;
}
static void *owner(void *p) {
    pthread_mutex_lock(p);
    return 0; /* it ends and holds the mutex */
}
static void *spin(void *p) {
    while (!__atomic_load_n((int *)p, __ATOMIC_ACQUIRE)) ;
    return 0;
}
static void on_signal(int n) {
    char text[] = "handler in other thread\n";
    if (getpid() != syscall(SYS_gettid)) write(1, text, sizeof text - 1);
}
static void *deep(void *p) {
    volatile char big[100000];
    memset((char *)big, 1, sizeof big);
    return (void *)(long)big[5000];
}

int main(void) {
    pthread_t t[8];
    void *result;
    pthread_key_create(&key, destroy);
    pthread_barrier_init(&barrier, 0, 5);
    for (long i = 0; i < 4; i++) pthread_create(t + i, 0, add, (void *)(i + 1));
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 4; i++) pthread_join(t[i], &result), printf("tls %ld\n", (long)result);
    printf("total %ld %ld destroyed %d once %d own %d\n", total, waiting, destroyed, initialized, own);

    pthread_create(t, 0, ping, 0);
    pthread_create(t + 1, 0, ping, (void *)1);
    pthread_join(t[0], 0), pthread_join(t[1], 0);
    printf("turn %d\n", turn);

    sem_init(&items, 0, 0), sem_init(&spaces, 0, 4);
    pthread_create(t, 0, produce, 0), pthread_create(t + 1, 0, consume, 0);
    pthread_join(t[0], 0), pthread_join(t[1], &result);
    printf("consumed %ld\n", (long)result);

    pthread_create(t, 0, sleeper, 0);
    usleep(1000);
    pthread_cancel(t[0]);
    pthread_join(t[0], &result);
    printf("canceled %d\n", result == PTHREAD_CANCELED);

    for (int i = 0; i < 3; i++) pthread_create(t + i, 0, reader, 0);
    usleep(100);
    pthread_rwlock_wrlock(&shared);
    puts("writer");
    pthread_rwlock_unlock(&shared);
    for (int i = 0; i < 3; i++) pthread_join(t[i], 0);

    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 5000000;
    if (soon.tv_nsec >= 1000000000) soon.tv_sec++, soon.tv_nsec -= 1000000000;
    pthread_mutex_lock(&lock);
    printf("timed wait %s\n", strerror(pthread_cond_timedwait(&changed, &lock, &soon)));
    pthread_mutex_unlock(&lock);

    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_t robust;
    pthread_mutex_init(&robust, &attributes);
    pthread_create(t, 0, owner, &robust);
    pthread_join(t[0], 0);
    int e = pthread_mutex_lock(&robust);
    printf("robust %s\n", e == EOWNERDEAD ? "owner died" : strerror(e));
    pthread_mutex_consistent(&robust);
    pthread_mutex_unlock(&robust);

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_t inherit;
    pthread_mutex_init(&inherit, &attributes);
    printf("inherit %d %d\n", pthread_mutex_lock(&inherit), pthread_mutex_unlock(&inherit));

    int flag = 0;
    pthread_create(t, 0, spin, &flag);
    usleep(1000);
    __atomic_store_n(&flag, 1, __ATOMIC_RELEASE);
    pthread_join(t[0], 0);
    puts("spun");

    signal(SIGUSR1, on_signal);
    pthread_create(t, 0, sleeper, 0);
    usleep(1000);
    pthread_kill(t[0], SIGUSR1);
    usleep(20000);
    pthread_cancel(t[0]);
    pthread_join(t[0], 0);

    pthread_attr_t attribute;
    pthread_attr_init(&attribute);
    pthread_attr_setstacksize(&attribute, 1 << 18);
    pthread_create(t, &attribute, deep, 0);
    pthread_join(t[0], &result);
    printf("deep %ld\n", (long)result);
    for (int i = 0; i < 200; i++) {
        pthread_create(t, 0, deep, 0);
        pthread_join(t[0], 0);
    }
    puts("many");

    /* between processes */
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    struct { pthread_mutex_t lock; sem_t done; int count; } *both =
        mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutex_init(&both->lock, &attributes);
    sem_init(&both->done, 1, 0);
    for (int i = 0; i < 3; i++)
        if (!fork()) {
            for (int j = 0; j < 300; j++) {
                pthread_mutex_lock(&both->lock);
                both->count++;
                pthread_mutex_unlock(&both->lock);
            }
            sem_post(&both->done);
            _exit(0);
        }
    for (int i = 0; i < 3; i++) sem_wait(&both->done);
    while (wait(0) > 0) ;
    printf("shared %d\n", both->count);

    /* fork from a thread's point of view: only that one goes on */
    pthread_create(t, 0, sleeper, 0);
    pid_t child = fork();
    if (!child) _exit(getpid() == syscall(SYS_gettid) ? 4 : 5);
    int status;
    waitpid(child, &status, 0);
    printf("child %d\n", WEXITSTATUS(status));
    fflush(stdout);
    exit(9);
}
