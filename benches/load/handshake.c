#define _GNU_SOURCE
#include "handshake.h"

#include <ctype.h>
#include <string.h>

#include "accept.h"
#include "fail.h"
#include "stream.h"

size_t handshake_request(const char *host, int port, const char *path, char *request, char *accept) {
    uint64_t nonce[2] = {random_word(), random_word()};
    char key[KEY_LENGTH + 1] = {0};
    base64((const uint8_t *)nonce, sizeof nonce, key);
    accept_of(key, accept);
    int n = snprintf(request, REQUEST_MAX,
                     "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     path, host, port, key);
    if (n >= REQUEST_MAX) fail("the path is too long");
    return (size_t)n;
}

/* Finds a header field's value and its length; NULL if there is none. */
static const char *field(const char *response, const char *name, size_t *length) {
    size_t name_length = strlen(name);
    for (const char *line = strstr(response, "\r\n") + 2; *line != '\r'; line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, name, name_length) || line[name_length] != ':') continue;
        const char *value = line + name_length + 1, *end = strstr(value, "\r\n");
        while (value < end && (*value == ' ' || *value == '\t')) value++;
        while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
        *length = (size_t)(end - value);
        return value;
    }
    return NULL;
}

static int has_token(const char *value, size_t length, const char *token) {
    for (size_t i = 0; i < length;) {
        size_t begin = i, end;
        while (i < length && value[i] != ',') i++;
        end = i++;
        while (begin < end && isspace((unsigned char)value[begin])) begin++;
        while (end > begin && isspace((unsigned char)value[end - 1])) end--;
        if (end - begin == strlen(token) && !strncasecmp(value + begin, token, end - begin)) return 1;
    }
    return 0;
}

void handshake_check(uint32_t id, const char *response, const char *accept) {
    size_t length;
    if (strncmp(response, "HTTP/1.1 101", 12) || (response[12] != ' ' && response[12] != '\r'))
        fail("connection %u: handshake refused: %.*s", id, (int)strcspn(response, "\r\n"), response);
    const char *value = field(response, "Upgrade", &length);
    if (!value || length != 9 || strncasecmp(value, "websocket", 9))
        fail("connection %u: handshake response without Upgrade: websocket", id);
    value = field(response, "Connection", &length);
    if (!value || !has_token(value, length, "upgrade"))
        fail("connection %u: handshake response without Connection: Upgrade", id);
    value = field(response, "Sec-WebSocket-Accept", &length);
    if (!value || length != ACCEPT_LENGTH || memcmp(value, accept, ACCEPT_LENGTH))
        fail("connection %u: wrong Sec-WebSocket-Accept: %.*s instead of %.28s", id, value ? (int)length : 0,
             value ? value : "", accept);
    if (field(response, "Sec-WebSocket-Extensions", &length))
        fail("connection %u: the server chose an extension that was not offered", id);
    if (field(response, "Sec-WebSocket-Protocol", &length))
        fail("connection %u: the server chose a subprotocol that was not offered", id);
}
