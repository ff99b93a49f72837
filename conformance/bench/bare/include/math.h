#pragma once
static inline double sqrt(double x) { return __builtin_sqrt(x); }
