/* Floating point: additions, multiplications and comparisons. */
#include <stdio.h>

enum { SIZE = 720, LIMIT = 220 };

int main(void) {
    long inside = 0, steps = 0;
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++) {
            double cr = 2.6 * x / SIZE - 1.9, ci = 2.4 * y / SIZE - 1.2, zr = 0, zi = 0;
            int n = 0;
            for (; n < LIMIT && zr * zr + zi * zi < 4.0; n++) {
                double t = zr * zr - zi * zi + cr;
                zi = 2 * zr * zi + ci;
                zr = t;
            }
            steps += n;
            inside += n == LIMIT;
        }
    printf("mandelbrot %ld %ld\n", inside, steps);
    return 0;
}
