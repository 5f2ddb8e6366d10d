/* A plugin for tests, in many variants: each -D makes another one. Without any it is sound. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hsu_module.h"

#ifndef MAGIC
#define MAGIC HSU_MAGIC
#endif
#ifndef SIZE
#define SIZE sizeof(hsu_descriptor)
#endif
#ifndef MAJOR
#define MAJOR HSU_ABI_MAJOR
#endif
#ifndef MINOR
#define MINOR HSU_ABI_MINOR
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
#ifndef NAME
#define NAME "variant"
#endif
#ifndef VERSION
#define VERSION "1"
#endif
#ifndef DESTROY
#define DESTROY destroy
#endif
#ifndef STOP
#define STOP stop
#endif
#ifndef CALL
#define CALL call
#endif
#ifndef SYMBOL
#define SYMBOL hsu_module_descriptor
#endif
/* What `create` does before anything else, and what each function returns with which text. */
#ifndef IN_CREATE
#define IN_CREATE
#endif
#ifndef HANDLE
#define HANDLE ((void *)h)
#endif
#ifndef CREATE
#define CREATE 0
#endif
#ifndef INITIALIZE
#define INITIALIZE 0
#endif
#ifndef START
#define START 0
#endif
#ifndef STOP_RESULT
#define STOP_RESULT 0
#endif
#ifndef HEALTH
#define HEALTH 0
#endif
#ifndef INFO
#define INFO 5
#endif
#ifndef CALL_RESULT
#define CALL_RESULT 0
#endif
#ifndef TEXT
#define TEXT ""
#endif
/* How often the text is told, one piece after the other. */
#ifndef TIMES
#define TIMES 1
#endif

#ifdef CONSTRUCTOR
__attribute__((constructor)) static void construct(void) { CONSTRUCTOR; }
#endif

#ifdef MISSING
extern void nowhere_to_be_found(void);
void use_it(void) { nowhere_to_be_found(); }
#endif

static int32_t told(const hsu_sink *sink, int32_t result) {
    for (int i = 0; i < TIMES; i++) {
        sink->put(sink->ctx, (const uint8_t *)TEXT, sizeof TEXT - 1);
    }
    return result;
}

static int32_t create(const hsu_host *h, hsu_str w, void **handle, const hsu_sink *e) {
    (void)h, (void)w;
    IN_CREATE;
    *handle = HANDLE;
    return CREATE ? told(e, CREATE) : 0;
}

static int32_t initialize(void *h, hsu_str c, const hsu_sink *e) {
    (void)h, (void)c;
    return INITIALIZE ? told(e, INITIALIZE) : 0;
}

static hsu_str text(const char *text) {
    hsu_str borrowed = {(const uint8_t *)text, strlen(text)};
    return borrowed;
}

static int32_t start(void *handle, const hsu_sink *e) {
    const hsu_host *h = handle;
    (void)h, (void)text;
#ifdef IN_START
    IN_START;
#endif
    return START ? told(e, START) : 0;
}

static int32_t stop(void *h, uint64_t t, const hsu_sink *e) {
    (void)h, (void)t;
    return STOP_RESULT ? told(e, STOP_RESULT) : 0;
}

static int32_t is_healthy(void *h, const hsu_sink *e) {
    (void)h;
    return HEALTH ? told(e, HEALTH) : 0;
}

static int32_t get_info(void *h, const hsu_sink *e) {
    (void)h;
    return INFO == 5 ? 5 : told(e, INFO);
}

static void destroy(void *handle) {
    const hsu_host *h = handle;
    (void)h, (void)text;
#ifdef IN_DESTROY
    IN_DESTROY;
#endif
}

static int32_t call(void *h, hsu_str f, const uint8_t *p, size_t n, const hsu_sink *e) {
    (void)h, (void)f, (void)p, (void)n;
    return told(e, CALL_RESULT);
}

void hsu_test_function(void) {}

/* Unused where a variant leaves them out. */
void *const hsu_test_all[] = {(void *)stop, (void *)destroy, (void *)call};

HSU_EXPORT const hsu_descriptor SYMBOL = {
    MAGIC, SIZE, MAJOR, MINOR, FLAGS, NAME, VERSION, "", NULL, "C",
    create, initialize, start, STOP, is_healthy, get_info, DESTROY, CALL,
};
