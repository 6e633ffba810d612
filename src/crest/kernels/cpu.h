/* Which instruction sets this build may use, and which of them the running CPU has.
 *
 * Owns every compiler and architecture test of the kernels. Knows no kernel, and no Python.
 *
 * Variants are compiled by function target attributes, so that no source file needs flags of its own; a compiler
 * without them (MSVC) gets the portable variants only.
 */

#ifndef CREST_CPU_H
#define CREST_CPU_H

#include <stdbool.h>

#if defined(__GNUC__) && defined(__x86_64__)
#define CREST_X86 1
#include <immintrin.h>
#else
#define CREST_X86 0
#endif

/* Big-endian AArch64 numbers the lanes of a vector differently: it takes the portable variants. */
#if defined(__GNUC__) && defined(__aarch64__) && !defined(__AARCH64EB__)
#define CREST_NEON 1
#include <arm_neon.h>
#else
#define CREST_NEON 0
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define CREST_BIG_ENDIAN 1
#else
#define CREST_BIG_ENDIAN 0
#endif

#if CREST_X86 || CREST_NEON
/* For parts of a loop: a call would cost more than the part, and a parameter is a constant if the argument is one. */
#define CREST_INLINE static inline __attribute__((always_inline))
#endif

#if CREST_X86
#define CREST_TARGET(isa) __attribute__((target(isa)))

/* These ask the operating system as well: registers that it does not save count as missing. */
static inline bool crest_cpu_has_ssse3(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("ssse3") != 0;
}

static inline bool crest_cpu_has_sse4(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.1") != 0 && __builtin_cpu_supports("popcnt") != 0;
}

static inline bool crest_cpu_has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") != 0;
}

/* True from Ice Lake and Zen 4 on: vectors of 64 bytes, masks for each byte, and compression of bytes. */
static inline bool crest_cpu_has_avx512(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vbmi2") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("bmi2") != 0 && __builtin_cpu_supports("popcnt") != 0;
}
#endif

#endif
