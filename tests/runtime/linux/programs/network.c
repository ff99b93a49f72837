/* Sockets, poll, select, epoll, and descriptors that events are read from. Argument: a folder. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int listener;
static void *serve(void *p) {
    int c = accept(listener, 0, 0), n, sum = 0;
    char buffer[1000];
    while ((n = recv(c, buffer, sizeof buffer, 0)) > 0) {
        sum += n;
        for (int i = 0; i < n; i++) buffer[i] ^= 32;
        send(c, buffer, n, 0);
    }
    close(c);
    return (void *)(long)sum;
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IOLBF, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    pthread_t t;
    void *result;
    int one = 1, value;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    printf("bind %d listen %d\n", bind(listener, (void *)&at, sizeof at), listen(listener, 5));
    getsockname(listener, (void *)&at, &size);
    printf("name %d %d %s\n", at.sin_family == AF_INET, at.sin_port != 0, inet_ntoa(at.sin_addr));
    pthread_create(&t, 0, serve, 0);
    int c = socket(AF_INET, SOCK_STREAM, 0);
    printf("connect %d\n", connect(c, (void *)&at, sizeof at));
    char buffer[70000], got[70000];
    memset(buffer, 'a', sizeof buffer);
    long sent = 0, back = 0, upper = 0, n;
    while (back < 70000) {
        struct pollfd p = {.fd = c, .events = POLLIN | (sent < 70000 ? POLLOUT : 0)};
        poll(&p, 1, -1);
        if (p.revents & POLLIN) { n = recv(c, got, sizeof got, 0); for (long i = 0; i < n; i++) upper += got[i] == 'A'; back += n; }
        if (p.revents & POLLOUT && sent < 70000) sent += send(c, buffer, 7000, 0);
    }
    printf("echoed %ld %ld\n", back, upper);
    size = sizeof value;
    getsockopt(c, SOL_SOCKET, SO_TYPE, &value, &size);
    printf("type %d\n", value == SOCK_STREAM);
    shutdown(c, SHUT_WR);
    printf("end %zd\n", recv(c, got, 10, 0));
    pthread_join(t, &result);
    printf("served %ld\n", (long)result);
    close(c);
    struct sockaddr_in nowhere = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c = socket(AF_INET, SOCK_STREAM, 0);
    printf("refused %d %s\n", connect(c, (void *)&nowhere, sizeof nowhere), strerror(errno));
    fcntl(c, F_SETFL, O_NONBLOCK);
    close(c);

    int u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0);
    at.sin_port = 0;
    bind(u, (void *)&at, sizeof at);
    size = sizeof at;
    getsockname(u, (void *)&at, &size);
    printf("datagram %zd\n", sendto(v, "hello", 5, 0, (void *)&at, sizeof at));
    struct sockaddr_in from;
    size = sizeof from;
    n = recvfrom(u, got, sizeof got, 0, (void *)&from, &size);
    printf("got %ld %.*s %d %d\n", n, (int)n, got, from.sin_family == AF_INET, size == sizeof from);
    struct timeval wait_for = {0, 20000};
    setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &wait_for, sizeof wait_for);
    printf("timeout %zd %s\n", recv(u, got, 10, 0), strerror(errno));
    printf("dontwait %zd %s\n", recv(u, got, 10, MSG_DONTWAIT), strerror(errno));

    struct sockaddr_un path = {.sun_family = AF_UNIX};
    snprintf(path.sun_path, sizeof path.sun_path, "%s/socket", argv[1]);
    int l = socket(AF_UNIX, SOCK_STREAM, 0), pair[2];
    printf("unix %d %d\n", bind(l, (void *)&path, sizeof path), listen(l, 1));
    if (!fork()) {
        int s = socket(AF_UNIX, SOCK_STREAM, 0);
        connect(s, (void *)&path, sizeof path);
        write(s, "from child", 10);
        _exit(0);
    }
    c = accept4(l, 0, 0, SOCK_CLOEXEC);
    n = read(c, got, sizeof got);
    printf("child says %.*s\n", (int)n, got);
    wait(0);
    unlink(path.sun_path);

    /* a descriptor through a socket */
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    int ends[2];
    pipe(ends);
    struct iovec vector = {"D", 1};
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr aligned; } control;
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &ends[1], sizeof(int));
    printf("sendmsg %zd\n", sendmsg(pair[0], &message, 0));
    memset(&control, 0, sizeof control);
    vector.iov_base = got;
    message.msg_controllen = sizeof control;
    printf("recvmsg %zd", recvmsg(pair[1], &message, 0));
    head = CMSG_FIRSTHDR(&message);
    memcpy(&value, CMSG_DATA(head), sizeof value);
    write(value, "passed", 6);
    n = read(ends[0], got, sizeof got);
    printf(" %d %.*s\n", head->cmsg_type == SCM_RIGHTS, (int)n, got);

    /* select, epoll */
    fd_set reading;
    FD_ZERO(&reading);
    FD_SET(ends[0], &reading);
    struct timeval none = {0, 10000};
    printf("select %d\n", select(ends[0] + 1, &reading, 0, 0, &none));
    write(ends[1], "q", 1);
    FD_SET(ends[0], &reading);
    printf("select %d %d\n", select(ends[0] + 1, &reading, 0, 0, 0), FD_ISSET(ends[0], &reading) != 0);
    int e = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x123456789abcdefull}, found[4];
    printf("ctl %d", epoll_ctl(e, EPOLL_CTL_ADD, ends[0], &event));
    printf(" %d %d\n", epoll_ctl(e, EPOLL_CTL_ADD, ends[0], &event), errno == EEXIST);
    n = epoll_wait(e, found, 4, -1);
    printf("epoll %ld %d %d\n", n, found[0].events == EPOLLIN, found[0].data.u64 == event.data.u64);
    read(ends[0], got, 10);
    printf("epoll %d\n", epoll_wait(e, found, 4, 10));

    int counter = eventfd(3, EFD_NONBLOCK);
    uint64_t number = 4;
    write(counter, &number, 8);
    printf("eventfd %zd", read(counter, &number, 8));
    printf(" %d", (int)number);
    printf(" %zd %s\n", read(counter, &number, 8), strerror(errno));
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec spec = {{0, 2000000}, {0, 2000000}};
    timerfd_settime(timer, 0, &spec, 0);
    event.data.u64 = 5;
    epoll_ctl(e, EPOLL_CTL_ADD, timer, &event);
    n = epoll_wait(e, found, 4, 1000);
    printf("timerfd %ld %d", n, (int)found[0].data.u64);
    printf(" %zd %d\n", read(timer, &number, 8), number >= 1);
    close(timer);
    sigset_t mask;
    sigemptyset(&mask), sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, 0);
    int signals = signalfd(-1, &mask, 0);
    struct pollfd p = {.fd = signals, .events = POLLIN};
    printf("signalfd %d", poll(&p, 1, 0));
    if (!fork()) { usleep(20000); kill(getppid(), SIGUSR1); _exit(0); }
    printf(" %d", poll(&p, 1, 2000));
    struct signalfd_siginfo info;
    printf(" %zd %d", read(signals, &info, sizeof info), info.ssi_signo == SIGUSR1);
    printf(" %d\n", poll(&p, 1, 0));
    wait(0);
    return 0;
}
