/* Floating point: bodies that attract each other, with division and square root. */
#include <math.h>
#include <stdio.h>

enum { BODIES = 5, STEPS = 700000 };
static double place[BODIES][3], speed[BODIES][3], mass[BODIES];

int main(void) {
    for (int i = 0; i < BODIES; i++) {
        mass[i] = 1.0 / (1 + i * i);
        for (int k = 0; k < 3; k++) {
            place[i][k] = (i + 1) * (k + 1) * 0.7 - 3.0 * (k == i % 3);
            speed[i][k] = 0.1 * (k - i) + 0.05 * i * k;
        }
    }
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < BODIES; i++)
            for (int j = i + 1; j < BODIES; j++) {
                double d[3], r2 = 0.01;
                for (int k = 0; k < 3; k++) { d[k] = place[i][k] - place[j][k]; r2 += d[k] * d[k]; }
                double force = 0.001 / (r2 * sqrt(r2));
                for (int k = 0; k < 3; k++) { speed[i][k] -= d[k] * mass[j] * force; speed[j][k] += d[k] * mass[i] * force; }
            }
        for (int i = 0; i < BODIES; i++)
            for (int k = 0; k < 3; k++) place[i][k] += 0.001 * speed[i][k];
    }
    printf("nbody %.12f %.12f\n", place[0][0], speed[4][2]);
    return 0;
}
