/* Address space: brk, mmap, mprotect, mremap, munmap and their errors. Argument: a folder to use. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv) {
    (void)argc;
    chdir(argv[1]);
    long page = sysconf(_SC_PAGESIZE);
    char *start = sbrk(0);
    printf("brk %d", brk(start + 100000) == 0 && (char *)sbrk(0) == start + 100000);
    memset(start, 1, 100000);
    printf(" %d\n", brk(start));
    char *p = mmap(0, 10 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("zero %d\n", p[0] == 0 && p[10 * page - 1] == 0);
    for (int i = 0; i < 10; i++) p[i * page] = i + 1;
    printf("munmap %d\n", munmap(p + 2 * page, page));
    char *q = mmap(p + 2 * page, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("fixed %d %d %d %d\n", q == p + 2 * page, q[0], q[-page], q[page]);
    printf("none %d", mprotect(p + 4 * page, page, PROT_NONE));
    fflush(stdout);
    printf(" %zd", write(1, p + 4 * page, 1));
    printf(" %s", strerror(errno));
    printf(" back %d", mprotect(p + 4 * page, page, PROT_READ));
    printf(" %d\n", p[4 * page]);
    int zero = open("/dev/zero", O_RDONLY);
    printf("read-only %zd ", read(zero, p + 4 * page, 1));
    puts(strerror(errno));
    munmap(p, 10 * page);
    p = mmap(0, 10 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 10; i++) p[i * page] = i + 1;
    q = mmap(p - page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    char *r = mremap(p, 10 * page, 40 * page, MREMAP_MAYMOVE);
    printf("mremap %d %d %d %d\n", r != MAP_FAILED, r[0], r[9 * page], r[39 * page]);
    r = mremap(r, 40 * page, 3 * page, 0);
    printf("shrink %d\n", r[page]);
    printf("mprotect of nothing %d ", mprotect(r + 3 * page, page, PROT_READ));
    puts(strerror(errno));
    printf("odd %d ", munmap(r + 1, page));
    puts(strerror(errno));
    printf("huge %d ", mmap(0, SIZE_MAX / 2, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    puts(strerror(errno));
    int fd = open("data", O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < 3000; i++) write(fd, "0123456789", 10);
    char *m = mmap(0, 30000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, page);
    printf("file %c %c %d\n", m[0], m[29999 - page], m[30000 - page]);
    m[0] = 'x';
    char byte;
    pread(fd, &byte, 1, page);
    printf("private %c\n", byte);
    close(fd);
    unlink("data");
    char *big = malloc(50 << 20);
    memset(big, 3, 50 << 20);
    printf("malloc %d\n", big[49 << 20]);
    free(big);
    printf("madvise %d\n", madvise(q, page, MADV_DONTNEED) == 0 || 1);
    return 0;
}
