#include "accept.h"

#include <string.h>

#include "sha1.h"

static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 section 1.3 */

void base64(const uint8_t *bytes, size_t n, char *out) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16;
        if (i + 1 < n) group |= (uint32_t)bytes[i + 1] << 8;
        if (i + 2 < n) group |= bytes[i + 2];
        *out++ = letters[group >> 18 & 63];
        *out++ = letters[group >> 12 & 63];
        *out++ = i + 1 < n ? letters[group >> 6 & 63] : '=';
        *out++ = i + 2 < n ? letters[group & 63] : '=';
    }
}

void accept_of(const char *key, char *out) {
    uint8_t text[KEY_LENGTH + sizeof GUID - 1], digest[SHA1_LENGTH];
    memcpy(text, key, KEY_LENGTH);
    memcpy(text + KEY_LENGTH, GUID, sizeof GUID - 1);
    sha1(text, sizeof text, digest);
    base64(digest, sizeof digest, out);
}
