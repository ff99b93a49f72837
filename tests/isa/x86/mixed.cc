// Programs' everyday code in one: 64-bit and floating-point arithmetic of all widths, containers, exceptions, varargs, longjmp.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

static std::jmp_buf place;

static long long summed(int count, ...) {
    va_list list;
    va_start(list, count);
    long long total = 0;
    for (int i = 0; i < count; i++) total = i % 2 ? total * 31 + va_arg(list, long long) : total ^ (long long)va_arg(list, double);
    va_end(list);
    return total;
}

static void jump(int depth) {
    if (depth == 0) std::longjmp(place, 7);
    jump(depth - 1);
}

static uint64_t mixed(uint64_t x) {
    x ^= x >> 33, x *= 0xff51afd7ed558ccdull, x ^= x >> 29;
    return x / (x % 1000003 + 1) + (uint64_t)((int64_t)x / 12345) + (x << (x & 31));
}

template <typename T> static void numbers(const char *name) {
    T sum = 0, product = 1;
    for (int i = 1; i < 200; i++) {
        sum += std::sqrt((T)i) / (T)(i * i + 1) - std::floor((T)i / 7);
        product = product * (T)1.0009765625 + (T)(i % 3);
    }
    // few digits: x87 keeps more than SSE where it may
    std::printf("%s %.4Lf %.3Lf %d\n", name, (long double)sum, (long double)product, (int)(long long)(sum * 10));
}

int main() {
    uint64_t seed = 1;
    std::vector<uint32_t> list;
    std::unordered_map<uint32_t, int> table;
    std::map<std::string, int> words;
    for (int i = 0; i < 5000; i++) {
        seed = mixed(seed + i);
        list.push_back((uint32_t)seed);
        table[(uint32_t)seed % 97] += i;
        words["w" + std::to_string(seed % 50)]++;
    }
    std::sort(list.begin(), list.end(), [](uint32_t a, uint32_t b) { return (a ^ 0x5555) < (b ^ 0x5555); });
    uint64_t hash = 0;
    for (uint32_t value : list) hash = hash * 1099511628211ull + value;
    long long count = 0;
    for (auto &[key, value] : table) count += (long long)key * value;
    for (auto &[key, value] : words) std::printf("%s:%d ", key.c_str(), value);
    std::printf("\n%llx %lld\n", (unsigned long long)hash, count);
    numbers<float>("float"), numbers<double>("double"), numbers<long double>("long double");
    std::printf("%lld\n", summed(6, 1.5, 22LL, -7e9, -3LL, 1e15, 1LL << 40));
    try {
        std::vector<int>().at(3);
    } catch (const std::out_of_range &) {
        std::puts("out of range");
    }
    if (int found = setjmp(place)) std::printf("jumped %d\n", found);
    else jump(20);
    char text[4096], copy[4096];
    std::memset(text, 'x', sizeof text), text[4095] = 0;
    std::memcpy(copy, text, sizeof text), copy[2000] = 'y';
    std::printf("%zu %d %td\n", std::strlen(copy), std::memcmp(copy, text, 4096) > 0, std::strchr(copy, 'y') - copy);
    for (int i = 0; i < 8; i++) std::printf("%d %u %lld; ", (int)(-i * 1e8), (unsigned)(i * 3e8), (long long)(i * -1.7e17));
    std::puts("");
    return (int)(hash & 63);
}
