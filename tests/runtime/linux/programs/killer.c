/* Tries to end a process that isn't its own, and then everybody. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
    kill(atoi(argv[1]), SIGKILL);
    puts(strerror(errno));
    printf("%d", kill(-1, SIGKILL));
    printf(" %d\n", errno == ESRCH);
    return 0;
}
