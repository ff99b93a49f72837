/* Tries to read what lies outside. Arguments: paths; prints what is in each, or the error. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void show(const char *how, const char *path, int fd) {
    char text[200];
    int n;
    if (fd < 0) { printf("%s %s: %s\n", how, path, strerror(errno)); return; }
    n = read(fd, text, sizeof text - 1);
    if (n < 0) { printf("%s %s: %s\n", how, path, strerror(errno)); close(fd); return; }
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    printf("%s %s: <%.40s>\n", how, path, text);
    close(fd);
}

int main(int argc, char **argv) {
    char text[4096], *bad[] = {"name", 0};
    struct stat status;
    setvbuf(stdout, 0, _IOLBF, 0);
    if (argc > 1 && !strcmp(argv[1], "deny")) {
        int fd = open("new", O_CREAT | O_WRONLY, 0600);
        printf("create %s\n", fd < 0 ? strerror(errno) : "done");
        fd = open("file", O_WRONLY);
        printf("write %s\n", fd < 0 ? strerror(errno) : "done");
        fd = open("file", O_RDONLY);
        printf("read %s\n", fd < 0 ? strerror(errno) : "done");
        printf("mkdir %s\n", mkdir("d", 0700) ? strerror(errno) : "done");
        printf("unlink %s\n", unlink("file") ? strerror(errno) : "done");
        printf("rename %s\n", rename("file", "other") ? strerror(errno) : "done");
        printf("chmod %s\n", fchmod(fd, 0600) ? strerror(errno) : "done");
        printf("truncate %s\n", truncate("file", 0) ? strerror(errno) : "done");
        fd = open("/dev/null", O_WRONLY);
        printf("null %s\n", fd < 0 ? strerror(errno) : "done");
        printf("socket %s\n", socket(AF_INET, SOCK_STREAM, 0) < 0 ? strerror(errno) : "done");
        printf("unix %s\n", socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? strerror(errno) : "done");
        int status;
        if (!fork()) { execv("/proc/self/exe", bad); _exit(errno); }
        wait(&status);
        printf("exec %s\n", WEXITSTATUS(status) > 1 ? strerror(WEXITSTATUS(status)) : "done");
        return 0;
    }
    if (argc == 1) return 1;
    for (int i = 1; i < argc; i++) {
        show("open", argv[i], open(argv[i], O_RDONLY));
        int root = open("/", O_RDONLY | O_DIRECTORY);
        show("openat", argv[i], openat(root, argv[i][0] == '/' ? argv[i] + 1 : argv[i], O_RDONLY));
        close(root);
        printf("stat %s: %s\n", argv[i], stat(argv[i], &status) ? strerror(errno) : "there");
    }
    for (int i = 0; i < 10; i++) chdir("..");
    printf("cwd %s\n", getcwd(text, sizeof text));
    show("open", "secret", open("secret", O_RDONLY));
    printf("mkdir %d\n", mkdir("made", 0700));
    int made = open("made", O_RDONLY | O_DIRECTORY);
    rename("made", "moved");
    show("up", "../secret", openat(made, "../secret", O_RDONLY));
    show("up", "../../secret", openat(made, "../../secret", O_RDONLY));
    fchdir(made);
    printf("cwd %s\n", getcwd(text, sizeof text));
    symlink("/../../../secret", "link");
    show("link", "link", open("link", O_RDONLY));
    printf("readlink %zd\n", readlink("/proc/self/root", text, sizeof text));
    printf("chroot %d %s\n", chroot("/"), strerror(errno));
    printf("mknod %d %s\n", mknod("device", S_IFCHR | 0600, 0x103), strerror(errno));
    printf("link %d\n", link("/link-out", "/hard") == 0 && open("/hard", O_RDONLY) >= 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/socket"};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    printf("bind %d\n", bind(s, (void *)&name, sizeof name));
    DIR *d = opendir("/");
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) n++;
    printf("entries %d\n", n);
    int fd = syscall(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_NOCTTY, 0x12345), status_ok = !fstat(fd, &status);
    printf("path %d %d %d\n", fd >= 0, status_ok, syscall(SYS_openat, fd, ".", O_RDONLY | O_DIRECTORY, 0x12345) >= 0);
    fd = open("/", O_TMPFILE | O_RDWR, 0600);
    printf("unnamed %zd\n", write(fd, "abc", 3));
    return 0;
}
