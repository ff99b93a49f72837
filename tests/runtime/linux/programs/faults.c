/* Ways to die; argument: which. */
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    puts("before");
    fflush(stdout);
    if (!strcmp(how, "null")) *(volatile int *)0 = 1;
    if (!strcmp(how, "text")) *(volatile char *)main = 1;
    if (!strcmp(how, "jump")) ((void (*)(void))0x10)();
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "term")) raise(SIGTERM);
    if (!strcmp(how, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(how, "exit")) _exit(259);
    return 3;
}
