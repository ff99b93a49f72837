/* What the benchmark programs need where there is no C library. */
#pragma once
int printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
