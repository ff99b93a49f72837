/* One SSE, FMA or F16C instruction at a time, between loading and storing MXCSR: the host as an independent judge.
 *
 * peer(operation, mxcsr, a, b, c, &result) returns the six exception flags in MXCSR's order. Operations are numbered
 * by the enumeration below, which test_host.py repeats by name. */
#include <stdint.h>
#include <string.h>

enum {
    ADD64, SUB64, MUL64, DIV64, SQRT64, FMA64, ADD32, SUB32, MUL32, DIV32, SQRT32, FMA32,
    RELATION64, RELATION64_SIGNALING, RELATION32, RELATION32_SIGNALING,
    TO_I32_64, TO_I64_64, TO_I32_32, TO_I64_32, TRUNC_I32_64, TRUNC_I64_64, TRUNC_I32_32, TRUNC_I64_32,
    FROM_I32_64, FROM_I64_64, FROM_I32_32, FROM_I64_32,
    TO_F32_64, TO_F64_32, TO_F16_32, TO_F32_16,
    INTEGRAL64, INTEGRAL64_EXACT, INTEGRAL32, INTEGRAL32_EXACT, LESS64, EQUAL64, LESS32, EQUAL32
};

typedef double vector __attribute__((vector_size(16)));

static vector load(uint64_t bits) {
    uint64_t lanes[2] = {bits, 0};
    vector v;
    memcpy(&v, lanes, 16);
    return v;
}

static uint64_t low(vector v) {
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits;
}

#define RUN(instruction, ...) \
    __asm__ volatile("ldmxcsr %[in]\n\t" instruction "\n\tstmxcsr %[out]\n\tldmxcsr %[rest]" __VA_ARGS__)
#define MODES [in] "m"(mxcsr), [rest] "m"(standard)
#define TWO(name) RUN(name " %[y], %[x]", : [x] "+x"(x), [out] "=m"(out) : [y] "x"(y), MODES); break
#define ONE(name) RUN(name " %[y], %[x]", : [x] "=x"(x), [out] "=m"(out) : [y] "x"(x), MODES); break
#define FUSED(name) \
    RUN(name " %[y], %[z], %[x]", : [x] "+x"(x), [out] "=m"(out) : [y] "x"(y), [z] "x"(z), MODES); break
/* ZF, PF, CF are 000 greater, 001 less, 100 equal, 111 unordered; the result is 2, 0, 1, 3. */
#define RELATION(name) \
    RUN(name " %[y], %[x]\n\tsetz %[zf]\n\tsetp %[pf]\n\tsetc %[cf]", \
        : [zf] "=&q"(zf), [pf] "=&q"(pf), [cf] "=&q"(cf), [out] "=m"(out) : [x] "x"(x), [y] "x"(y), MODES); \
    *result = pf ? 3 : zf ? 1 : cf ? 0 : 2; return out & 63
#define TO_32(name) \
    RUN(name " %[x], %[i]", : [i] "=r"(i32), [out] "=m"(out) : [x] "x"(x), MODES); *result = i32; return out & 63
#define TO_64(name) \
    RUN(name " %[x], %[i]", : [i] "=r"(i64), [out] "=m"(out) : [x] "x"(x), MODES); *result = i64; return out & 63
#define FROM_32(name) \
    x = load(0); RUN(name " %[i], %[x]", : [x] "+x"(x), [out] "=m"(out) : [i] "r"((uint32_t)a), MODES); break
#define FROM_64(name) \
    x = load(0); RUN(name " %[i], %[x]", : [x] "+x"(x), [out] "=m"(out) : [i] "r"(a), MODES); break

unsigned peer(int operation, unsigned mxcsr, uint64_t a, uint64_t b, uint64_t c, uint64_t *result) {
    static const unsigned standard = 0x1f80;
    vector x = load(a), y = load(b), z = load(c);
    unsigned out = 0;
    uint32_t i32;
    uint64_t i64;
    unsigned char zf, pf, cf;
    switch (operation) {
    case ADD64: TWO("addsd");
    case SUB64: TWO("subsd");
    case MUL64: TWO("mulsd");
    case DIV64: TWO("divsd");
    case SQRT64: ONE("sqrtsd");
    case FMA64: FUSED("vfmadd132sd");
    case ADD32: TWO("addss");
    case SUB32: TWO("subss");
    case MUL32: TWO("mulss");
    case DIV32: TWO("divss");
    case SQRT32: ONE("sqrtss");
    case FMA32: FUSED("vfmadd132ss");
    case RELATION64: RELATION("ucomisd");
    case RELATION64_SIGNALING: RELATION("comisd");
    case RELATION32: RELATION("ucomiss");
    case RELATION32_SIGNALING: RELATION("comiss");
    case TO_I32_64: TO_32("cvtsd2si");
    case TO_I64_64: TO_64("cvtsd2si");
    case TO_I32_32: TO_32("cvtss2si");
    case TO_I64_32: TO_64("cvtss2si");
    case TRUNC_I32_64: TO_32("cvttsd2si");
    case TRUNC_I64_64: TO_64("cvttsd2si");
    case TRUNC_I32_32: TO_32("cvttss2si");
    case TRUNC_I64_32: TO_64("cvttss2si");
    case FROM_I32_64: FROM_32("cvtsi2sdl");
    case FROM_I64_64: FROM_64("cvtsi2sdq");
    case FROM_I32_32: FROM_32("cvtsi2ssl");
    case FROM_I64_32: FROM_64("cvtsi2ssq");
    case TO_F32_64: ONE("cvtsd2ss");
    case TO_F64_32: ONE("cvtss2sd");
    case TO_F16_32: ONE("vcvtps2ph $4,");
    case TO_F32_16: ONE("vcvtph2ps");
    case INTEGRAL64: ONE("roundsd $12,");
    case INTEGRAL64_EXACT: ONE("roundsd $4,");
    case INTEGRAL32: ONE("roundss $12,");
    case INTEGRAL32_EXACT: ONE("roundss $4,");
    case LESS64: TWO("cmpltsd");
    case EQUAL64: TWO("cmpeqsd");
    case LESS32: TWO("cmpltss");
    case EQUAL32: TWO("cmpeqss");
    }
    *result = low(x);
    return out & 63;
}
