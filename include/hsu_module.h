/* The plugin ABI of HSU Master, version 1.0: a module in a shared library, in any language that can
 * export a C structure. C11 or C++11.
 *
 * A library exports one constant of type hsu_descriptor for each module, called
 * hsu_module_descriptor unless the worker's `entry_point` names another:
 *
 *     HSU_EXPORT const hsu_descriptor hsu_module_descriptor = {
 *         HSU_MAGIC, sizeof(hsu_descriptor), HSU_ABI_MAJOR, HSU_ABI_MINOR, 0,
 *         "upper", "1.0.0", "turns text into upper case", "somebody", "gcc",
 *         create, initialize, start, stop, is_healthy, get_info, destroy, call,
 *     };
 *
 * RULES
 * - Memory. Nothing allocated on one side is freed by the other. A text handed in is borrowed until
 *   the call returns; a text handed out goes through the sink, which copies it. The handle is the
 *   module's own: only `destroy` frees it.
 * - Threads. Every call for one handle but `call` comes from the worker's own thread, one at a time:
 *   create, initialize, start, is_healthy and get_info any number of times, stop, destroy. `call` may
 *   come from any thread and several at once, between a `start` that returned HSU_OK and `stop`.
 * - `start` returns once the service is up. Work that goes on is done by threads of the module's
 *   own, which `stop` ends and joins. Without a successful `start` there is no `stop`: `destroy` ends
 *   what there is.
 * - A function may not let an exception, a panic or a longjmp leave it, and may not exit the process
 *   or change what belongs to all of it: directory, umask, environment, locale, signal handlers.
 * - After HSU_PANICKED from any function but `call` a handle is only destroyed; from `call` it is that
 *   one call's error. A handle whose call never returns is abandoned with its thread.
 * - A library is never unloaded. Replace its file by rename, never by writing into it.
 */
#ifndef HSU_MODULE_H
#define HSU_MODULE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The bytes "HSUMODUL", in memory order. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define HSU_MAGIC UINT64_C(0x4853554d4f44554c)
#else
#define HSU_MAGIC UINT64_C(0x4c55444f4d555348)
#endif

/* A library of another major version is refused; one of a higher minor version is accepted. */
#define HSU_ABI_MAJOR 1
#define HSU_ABI_MINOR 0

/* What a library exports must be visible however it is compiled. */
#if defined(__GNUC__)
#define HSU_VISIBLE __attribute__((visibility("default")))
#else
#define HSU_VISIBLE
#endif
#ifdef __cplusplus
#define HSU_EXPORT extern "C" HSU_VISIBLE
#else
#define HSU_EXPORT HSU_VISIBLE
#endif

/* What a module's functions return. Any other value is taken as HSU_FAILED. */
enum {
    HSU_OK = 0,
    HSU_CONFIG_REJECTED = 1, /* no retry mends it; the text begins with the key: "config.port: ..." */
    HSU_FAILED = 2,
    HSU_PANICKED = 3,        /* from any function but `call`: the handle is broken, only destroy it;
                              * see hsu_sink for the place of the panic */
    HSU_MISUSED = 4,         /* the host broke a rule */
    HSU_UNSUPPORTED = 5      /* there is no such function */
};

/* Flags of a descriptor. A library with any other is refused. */
#define HSU_FLAG_PANIC_ABORT UINT64_C(1)     /* its panics end the process: refused */
#define HSU_FLAG_SINGLE_INSTANCE UINT64_C(2) /* at most one handle at a time */

/* Levels of log lines. */
enum { HSU_OFF, HSU_ERROR, HSU_WARN, HSU_INFO, HSU_DEBUG, HSU_TRACE };

/* Borrowed UTF-8, not NUL-terminated, valid until the call it is an argument of returns. */
typedef struct {
    const uint8_t *ptr;
    size_t len;
} hsu_str;

/* Takes text from the module, in as many pieces as it likes, until the call returns. Of errors,
 * reasons and infos 64 KiB are kept; a reply of `call` may have 512 KiB, and a longer one is an error.
 *
 * An error's last line may be a category of the master's in brackets, such as [network] or [timeout],
 * or [network permanent] where no retry mends it; the worker's error has it as its own. The last line
 * of a panic's text, or the one before [panic], may be "at FILE:LINE:COLUMN", which is its place. */
typedef struct {
    void *ctx;
    void (*put)(void *ctx, const uint8_t *bytes, size_t len);
} hsu_sink;

/* What the host offers to one life of a worker, from `create` on, for as long as the process lives.
 * Every function may be called on any thread, and none calls back into the module. */
typedef struct {
    uint32_t struct_size; /* of the host's version: look here before using what a later one added */
    uint16_t abi_major;
    uint16_t abi_minor;
    void *ctx;              /* the first argument of every function below */
    uint32_t log_max_level; /* lines of a higher level are not wanted */
    uint32_t reserved;      /* 0 */
    uint64_t incarnation;   /* which life of the worker this is, from 1 */

    /* One line for the log; the target says which part of the module speaks. */
    void (*log)(void *ctx, uint32_t level, hsu_str target, hsu_str message);
    /* 1 once this life is to end. */
    int32_t (*stop_requested)(void *ctx);
    /* Waits for that: 1 when it came, 0 when the time was over first. UINT64_MAX waits for ever. */
    int32_t (*wait_stop)(void *ctx, uint64_t timeout_ms);
    /* The service died inside: the worker fails, and its restart policy decides. A last line tells
     * more, as that of an error does: see hsu_sink. */
    void (*report_failure)(void *ctx, hsu_str message);
    /* The work is done: the worker stops and counts as completed. */
    void (*report_finished)(void *ctx);
    /* Feeds the worker's watchdog. */
    void (*heartbeat)(void *ctx);
    /* Something can be reached: type http, grpc, tcp or unix with its address, or function with the
     * name that `call` knows it by. A later one of the same name takes the place of the earlier. */
    void (*publish_endpoint)(void *ctx, hsu_str name, hsu_str type, hsu_str address);
} hsu_host;

/* One module. Texts are NUL-terminated UTF-8 of at most 255 bytes that live as long as the library;
 * name and version are required, the others may be null. The name is of [A-Za-z0-9_.-]. */
typedef struct {
    uint64_t magic;       /* HSU_MAGIC */
    uint32_t struct_size; /* sizeof(hsu_descriptor) */
    uint16_t abi_major;   /* HSU_ABI_MAJOR */
    uint16_t abi_minor;   /* HSU_ABI_MINOR */
    uint64_t flags;
    const char *name;
    const char *version;
    const char *description;
    const char *author;
    const char *built_with; /* compiler, for people */

    /* Makes an instance. With HSU_OK *handle must not be null. */
    int32_t (*create)(const hsu_host *host, hsu_str worker_id, void **handle, const hsu_sink *error);
    /* Takes the worker's `config`, a JSON object, once and before `start`. */
    int32_t (*initialize)(void *handle, hsu_str config_json, const hsu_sink *error);
    int32_t (*start)(void *handle, const hsu_sink *error);
    /* stop_requested has been true for a while; the end is expected within timeout_ms. */
    int32_t (*stop)(void *handle, uint64_t timeout_ms, const hsu_sink *error);
    /* HSU_OK: well, or HSU_UNSUPPORTED. HSU_FAILED: not well, and the reason. */
    int32_t (*is_healthy)(void *handle, const hsu_sink *reason);
    /* A JSON object; what it leaves out is as in this descriptor:
     * {"name":..,"version":..,"description":..,"author":..,
     *  "endpoints":[{"name":..,"type":..,"address":..}]}. HSU_UNSUPPORTED: all of it is. */
    int32_t (*get_info)(void *handle, const hsu_sink *json);
    /* Ends and frees the instance, whatever state it is in. */
    void (*destroy)(void *handle);
    /* Calls a function that was published. May be null. HSU_UNSUPPORTED: there is none of this
     * name. With HSU_OK the sink gets the reply, else the error's text. */
    int32_t (*call)(void *handle, hsu_str function, const uint8_t *payload, size_t len,
                    const hsu_sink *reply_or_error);
    /* Later minor versions add members here. */
} hsu_descriptor;

/* The layout is the interface. */
#ifdef __cplusplus
#define HSU_ASSERT(condition) static_assert(condition, #condition)
#else
#define HSU_ASSERT(condition) _Static_assert(condition, #condition)
#endif
#if UINTPTR_MAX == UINT64_MAX
HSU_ASSERT(sizeof(hsu_str) == 16);
HSU_ASSERT(sizeof(hsu_sink) == 16);
HSU_ASSERT(sizeof(hsu_host) == 88);
HSU_ASSERT(offsetof(hsu_host, ctx) == 8);
HSU_ASSERT(offsetof(hsu_host, log_max_level) == 16);
HSU_ASSERT(offsetof(hsu_host, incarnation) == 24);
HSU_ASSERT(offsetof(hsu_host, log) == 32);
HSU_ASSERT(offsetof(hsu_host, publish_endpoint) == 80);
HSU_ASSERT(sizeof(hsu_descriptor) == 128);
HSU_ASSERT(offsetof(hsu_descriptor, struct_size) == 8);
HSU_ASSERT(offsetof(hsu_descriptor, flags) == 16);
HSU_ASSERT(offsetof(hsu_descriptor, name) == 24);
HSU_ASSERT(offsetof(hsu_descriptor, create) == 64);
HSU_ASSERT(offsetof(hsu_descriptor, call) == 120);
#endif
#undef HSU_ASSERT

#ifdef __cplusplus
}
#endif
#endif
