/* A module in C: it exports the function "upper", which turns ASCII letters into upper case.
 *
 *     cc -shared -fPIC -I include -o libupper.so examples/c_module/upper.c -lpthread
 *     cargo run -- plugin check libupper.so
 *
 * Its config is {"prefix": "..."}, what each reply begins with. A thread of its own waits for the
 * stop, as that of a real service would. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hsu_module.h"

#ifndef VERSION
#define VERSION "1.0.0"
#endif

typedef struct {
    const hsu_host *host;
    char prefix[64];
    pthread_t thread;
    int running;
} upper;

static hsu_str text(const char *text) {
    hsu_str borrowed = {(const uint8_t *)text, strlen(text)};
    return borrowed;
}

static void put(const hsu_sink *sink, const char *text) {
    sink->put(sink->ctx, (const uint8_t *)text, strlen(text));
}

static int32_t create(const hsu_host *host, hsu_str worker_id, void **handle, const hsu_sink *error) {
    upper *self = calloc(1, sizeof *self);
    (void)worker_id;
    if (self == NULL) {
        put(error, "out of memory\n[resource_limit]");
        return HSU_FAILED;
    }
    self->host = host;
    *handle = self;
    return HSU_OK;
}

/* Reads {} or {"prefix":"TEXT"}: the host writes JSON without spaces. A module with more to read
 * would take a JSON library. */
static int32_t initialize(void *handle, hsu_str config, const hsu_sink *error) {
    static const char begin[] = "{\"prefix\":\"", end[] = "\"}";
    upper *self = handle;
    const char *json = (const char *)config.ptr;
    size_t length = config.len, around = strlen(begin) + strlen(end);
    if (length == 2 && memcmp(json, "{}", 2) == 0) {
        return HSU_OK;
    }
    if (length < around || memcmp(json, begin, strlen(begin)) != 0 ||
        memcmp(json + length - strlen(end), end, strlen(end)) != 0) {
        put(error, "config: expected nothing but a text called prefix");
        return HSU_CONFIG_REJECTED;
    }
    length -= around;
    json += strlen(begin);
    if (length >= sizeof self->prefix || memchr(json, '"', length) || memchr(json, '\\', length)) {
        put(error, "config.prefix: must be shorter than 64 bytes, without quotes and backslashes");
        return HSU_CONFIG_REJECTED;
    }
    memcpy(self->prefix, json, length);
    return HSU_OK;
}

static void *work(void *handle) {
    upper *self = handle;
    self->host->log(self->host->ctx, HSU_INFO, text("upper"), text("at work"));
    while (!self->host->wait_stop(self->host->ctx, UINT64_MAX)) {
    }
    return NULL;
}

static int32_t start(void *handle, const hsu_sink *error) {
    upper *self = handle;
    if (pthread_create(&self->thread, NULL, work, self) != 0) {
        put(error, "cannot start a thread\n[resource_limit]");
        return HSU_FAILED;
    }
    self->running = 1;
    self->host->publish_endpoint(self->host->ctx, text("upper"), text("function"), text("upper"));
    return HSU_OK;
}

static void join(upper *self) {
    if (self->running) {
        pthread_join(self->thread, NULL);
        self->running = 0;
    }
}

static int32_t stop(void *handle, uint64_t timeout_ms, const hsu_sink *error) {
    (void)timeout_ms;
    (void)error;
    join(handle);
    return HSU_OK;
}

static int32_t is_healthy(void *handle, const hsu_sink *reason) {
    if (((upper *)handle)->running) {
        return HSU_OK;
    }
    put(reason, "there is no thread");
    return HSU_FAILED;
}

static int32_t get_info(void *handle, const hsu_sink *json) {
    (void)handle;
    (void)json;
    return HSU_UNSUPPORTED; /* all there is to say is in the descriptor */
}

static void destroy(void *handle) {
    join(handle);
    free(handle);
}

static int32_t call(void *handle, hsu_str function, const uint8_t *payload, size_t len,
                    const hsu_sink *reply) {
    upper *self = handle;
    uint8_t part[256];
    size_t done = 0;
    if (function.len != 5 || memcmp(function.ptr, "upper", 5) != 0) {
        return HSU_UNSUPPORTED;
    }
    put(reply, self->prefix);
    while (done < len) {
        size_t count = 0;
        while (count < sizeof part && done < len) {
            uint8_t byte = payload[done++];
            part[count++] = byte >= 'a' && byte <= 'z' ? (uint8_t)(byte - 'a' + 'A') : byte;
        }
        reply->put(reply->ctx, part, count);
    }
    return HSU_OK;
}

HSU_EXPORT const hsu_descriptor hsu_module_descriptor = {
    HSU_MAGIC, sizeof(hsu_descriptor), HSU_ABI_MAJOR, HSU_ABI_MINOR, 0,
    "upper", VERSION, "turns text into upper case", "the authors of HSU Master", "C",
    create, initialize, start, stop, is_healthy, get_info, destroy, call,
};
