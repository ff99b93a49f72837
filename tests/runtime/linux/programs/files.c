/* Files, directories, names, descriptors: prints results that don't depend on the machine. Argument: a folder to use. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
    DIR *dir = opendir(path);
    char *names[64];
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        asprintf(&names[count++], "%s:%d", entry->d_name, entry->d_type);
    rewinddir(dir);
    int again = 0;
    while (readdir(dir)) again++;
    closedir(dir);
    qsort(names, count, sizeof *names, compare);
    for (int i = 0; i < count; i++) printf("%s ", names[i]);
    printf("(%d)\n", again);
}

int main(int argc, char **argv) {
    (void)argc;
    if (chdir(argv[1])) return perror("chdir"), 1;
    char here[4096];
    printf("cwd %d\n", strcmp(getcwd(here, sizeof here), argv[1]));
    umask(027);
    int fd = open("one", O_RDWR | O_CREAT | O_EXCL, 0666);
    printf("open %d", fd >= 3);
    printf(" again %d", open("one", O_RDWR | O_CREAT | O_EXCL, 0666));
    printf(" %s\n", strerror(errno));
    printf("write %zd\n", write(fd, "hello world", 11));
    struct stat st;
    fstat(fd, &st);
    printf("size %lld mode %o links %d blksize %d\n", (long long)st.st_size, st.st_mode, (int)st.st_nlink,
           (int)st.st_blksize > 0);
    printf("lseek %lld\n", (long long)lseek(fd, -5, SEEK_END));
    char buffer[64] = {0};
    printf("read %zd ", read(fd, buffer, 64));
    puts(buffer);
    printf("pread %zd ", pread(fd, buffer, 5, 2));
    printf("%.5s\n", buffer);
    printf("pwrite %zd\n", pwrite(fd, "X", 1, 0));
    struct iovec parts[2] = {{"ab", 2}, {"cde", 3}};
    printf("writev %zd\n", writev(fd, parts, 2));
    lseek(fd, 0, SEEK_SET);
    struct iovec targets[3] = {{buffer, 1}, {buffer + 10, 4}, {buffer + 20, 40}};
    printf("readv %zd ", readv(fd, targets, 3));
    printf("%c %.4s %.5s\n", buffer[0], buffer + 10, buffer + 20);
    printf("ftruncate %d", ftruncate(fd, 4));
    stat("one", &st);
    printf(" %lld\n", (long long)st.st_size);
    struct timespec times[2] = {{1000000000, 5}, {1234567890, 987654321}};
    printf("futimens %d", futimens(fd, times));
    fstat(fd, &st);
    printf(" %lld %ld\n", (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    int copy = dup(fd), high = fcntl(fd, F_DUPFD, 20);
    printf("dup %d %d\n", copy > fd, high >= 20);
    lseek(copy, 1, SEEK_SET);
    printf("shared position %lld\n", (long long)lseek(high, 0, SEEK_CUR));
    printf("getfl %x getfd %d\n", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), fcntl(fd, F_GETFD));
    fcntl(fd, F_SETFL, O_APPEND);
    printf("getfl %d\n", (fcntl(fd, F_GETFL) & O_APPEND) != 0);
    close(copy);
    printf("close %d", close(copy));
    printf(" %s\n", strerror(errno));
    mkdir("sub", 0777);
    symlink("one", "link");
    link("one", "sub/hard");
    rename("one", "two");
    list(".");
    printf("readlink %zd ", readlink("link", buffer, 64));
    printf("%.3s\n", buffer);
    printf("lstat %d ", lstat("link", &st));
    printf("%o\n", st.st_mode & S_IFMT);
    printf("stat dangling %d ", stat("link", &st));
    puts(strerror(errno));
    int dirfd = open("sub", O_DIRECTORY | O_RDONLY);
    printf("openat %d\n", openat(dirfd, "hard", O_RDONLY) > 0);
    printf("access %d %d\n", access("two", R_OK), faccessat(dirfd, "none", F_OK, 0));
    printf("chmod %d", fchmodat(AT_FDCWD, "two", 0600, 0));
    stat("two", &st);
    printf(" %o\n", st.st_mode & 07777);
    printf("rmdir %d ", rmdir("sub"));
    puts(strerror(errno));
    unlinkat(dirfd, "hard", 0);
    printf("rmdir %d\n", rmdir("sub"));
    printf("notdir %d ", open("two/x", O_RDONLY));
    puts(strerror(errno));
    unlink("link");
    unlink("two");
    list(".");
    int ends[2];
    printf("pipe %d ", pipe(ends));
    printf("%zd\n", write(ends[1], "pipe!", 5));
    struct pollfd polls[3] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}, {77, POLLIN, 0}};
    printf("poll %d ", poll(polls, 3, 100));
    printf("%d %d %d\n", polls[0].revents, polls[1].revents, polls[2].revents);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval patience = {1, 0};
    printf("select %d ", select(ends[0] + 1, &set, 0, 0, &patience));
    printf("%d\n", FD_ISSET(ends[0], &set));
    int ready = 0;
    printf("fionread %d ", ioctl(ends[0], FIONREAD, &ready));
    printf("%d\n", ready);
    printf("read %zd\n", read(ends[0], buffer, 64));
    close(ends[1]);
    printf("eof %zd\n", read(ends[0], buffer, 64));
    printf("isatty %d\n", isatty(ends[0]));
    fflush(stdout);
    printf("bad pointer %zd ", write(1, (void *)8, 4));
    puts(strerror(errno));
    printf("bad path %d ", open((char *)8, O_RDONLY));
    puts(strerror(errno));
    FILE *stream = fopen("text", "w+");
    for (int i = 0; i < 1000; i++) fprintf(stream, "line %d %.3f\n", i, i / 7.0);
    rewind(stream);
    char line[64];
    int lines = 0;
    while (fgets(line, sizeof line, stream)) lines++;
    printf("lines %d last %s", lines, line);
    fclose(stream);
    remove("text");
    return 0;
}
