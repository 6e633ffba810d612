/* Owns SHA-1 (FIPS 180-4) of short inputs; the opening handshake needs it, and nothing here relies on its strength. */
#ifndef LOAD_SHA1_H
#define LOAD_SHA1_H

#include <stddef.h>
#include <stdint.h>

enum { SHA1_LENGTH = 20 };

void sha1(const uint8_t *bytes, size_t n, uint8_t digest[SHA1_LENGTH]);

#endif
