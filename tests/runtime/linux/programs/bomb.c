/* Forks until it can't. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    int made = 0, child;
    while ((child = fork()) > 0) made++;
    if (!child) for (;;) pause();
    int e = errno;
    printf("made %d\n", made);
    signal(SIGTERM, SIG_IGN);
    kill(-1, SIGTERM);
    while (wait(0) > 0) made--;
    printf("left %d\n%s\n", made, strerror(e));
    return 0;
}
