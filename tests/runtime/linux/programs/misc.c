/* Time, identity, limits, environment, start-up; argument: anything. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static void at_end(void) { puts("at end"); }
static __thread int local = 5;

int main(int argc, char **argv, char **environment) {
    printf("%d %s %s\n", argc, argv[1], getenv("PROBE"));
    int count = 0;
    while (environment[count]) count++;
    printf("environment %d\n", count > 0);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    struct timespec nap = {0, 20000000};
    printf("nanosleep %d\n", nanosleep(&nap, 0));
    clock_gettime(CLOCK_MONOTONIC, &b);
    double elapsed = b.tv_sec - a.tv_sec + (b.tv_nsec - a.tv_nsec) / 1e9;
    printf("elapsed %d\n", elapsed >= 0.02 && elapsed < 5);
    struct timeval tv;
    gettimeofday(&tv, 0);
    printf("clocks agree %d\n", llabs((long long)tv.tv_sec - (long long)time(0)) <= 1 && tv.tv_usec < 1000000);
    printf("bad clock %d ", clock_gettime(99, &a));
    puts(strerror(errno));
    struct tm *tm = gmtime(&(time_t){1000000000});
    char text[64];
    strftime(text, sizeof text, "%F %T", tm);
    puts(text);
    printf("ids %d %d\n", getuid() == geteuid(), getpid() > 0);
    struct utsname name;
    uname(&name);
    printf("uname %s %s\n", name.sysname, name.machine);
    struct rlimit limit;
    printf("rlimit %d ", getrlimit(RLIMIT_STACK, &limit));
    printf("%d\n", limit.rlim_cur > 100000);
    printf("pagesize %lu %d\n", getauxval(AT_PAGESZ), getauxval(AT_SECURE) == 0);
    printf("execfn %d\n", strcmp((char *)getauxval(AT_EXECFN), argv[0]));
    char exe[4096];
    ssize_t size = readlink("/proc/self/exe", exe, sizeof exe);
    printf("exe %d\n", size > 4 && !memcmp(exe + size - 4, "misc", 4));
    unsigned char bytes[32] = {0}, zero[32] = {0};
    printf("getrandom %d ", (int)getrandom(bytes, 32, 0));
    printf("%d\n", memcmp(bytes, zero, 32) != 0);
    printf("unknown %ld ", syscall(5000));
    puts(strerror(errno));
    struct rusage usage;
    printf("rusage %d ", getrusage(RUSAGE_SELF, &usage));
    printf("%d\n", usage.ru_utime.tv_sec < 1000);
    local++;
    printf("tls %d\n", local);
    printf("math %.15g %.15g %.6e\n", sin(1.0), pow(2, 0.5), 1e300 * 1e-10);
    signal(SIGUSR1, SIG_IGN);
    printf("ignored signal %d\n", raise(SIGUSR1));
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &old);
    sigprocmask(SIG_SETMASK, &old, &set);
    printf("mask %d\n", sigismember(&set, SIGTERM));
    FILE *maps = fopen("/proc/self/maps", "r");
    int stack = 0;
    char line[512];
    while (fgets(line, sizeof line, maps)) stack += strstr(line, "[stack]") != 0;
    printf("maps %d\n", stack);
    fclose(maps);
    atexit(at_end);
    fflush(stdout);
    write(1, "direct\n", 7);
    exit(7);
}
