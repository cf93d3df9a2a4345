/* The load of the benchmark: a TLS 1.3 client and the plain TCP backend behind the contender, in one process and one thread.
 *
 * It must not be what limits a measurement. So it does honest TLS until a connection is up and one exchange has gone through
 * (which also consumes the session tickets), and then takes OpenSSL out of the way: what it sends was encrypted in advance,
 * what it receives is discarded inside the kernel or recognised by its record headers. --verify does everything through
 * SSL_read and SSL_write and compares every byte; it proves that the data is intact and is not for timing.
 *
 *     cc -O2 -Wall -Wextra -o load load.c -lssl -lcrypto
 *     load MODE --connect HOST:PORT [--backend HOST:PORT] --cert FILE --key FILE [options]      (load --help: all of them)
 *
 * It prints one JSON object on standard output. Exit code 0: measured; 1: not (the JSON has "error"); 2: usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATTERN 1048573u      /* bytes before the content repeats: a prime, so that a lost block never goes unseen */
#define CHUNK 262144u         /* bytes of one write of bulk data */
#define SECOND 1000000000ull  /* everything inside is in nanoseconds */
#define BODY 100              /* bytes of the body of an HTTP response */
#define LINGER (1 * SECOND)   /* how long a goodbye is waited for */

enum mode { FULL, RESUMED, DOWN, UP, PING, IDLE, BACKEND_ONLY };
static const char *const MODES[] = {"full", "resumed", "down", "up", "ping", "idle", "backend"};

enum role { LISTENER, BACKEND, CLIENT, INPUT, DEAD };
enum state { HANDSHAKE, FIRST, WAITING, HONEST_PING, RAW_PING, RAW_DOWN, RAW_UP, HONEST_DOWN, HONEST_UP, HELD, GOODBYE };

struct conn {
    enum role role;
    enum state state;
    int fd;
    SSL *ssl;
    bool resumed, flowing, ended; /* flowing: past the first exchange (backend), ended: its work is done (bulk) */
    uint64_t began;               /* when it was opened; in a ping, when the request was meant to leave */
    uint64_t left;                /* when its goodbye was said */
    uint64_t offset;              /* bytes of content sent or received so far */
    char *text;                   /* a message that is being collected */
    size_t have, expect;
    unsigned char *records;       /* ciphertext made in advance */
    size_t record, used, total;
    unsigned char header[5];      /* the header of the TLS record that is being received */
    size_t header_have, body_left;
    struct conn *next, *previous;
};

static struct {
    enum mode mode;
    struct sockaddr_in contender, backend;
    const char *cert, *key, *ciphers, *groups, *http, *host;
    uint64_t number, parallel, sources, size, bytes, count;
    double seconds, setup;
    uint64_t every;
    bool connects, listens, verify, full;
} opt = {.ciphers = "TLS_AES_256_GCM_SHA384", .host = "localhost", .parallel = 32, .sources = 1, .size = 100, .seconds = 5, .setup = 60};

static int epoll_fd;
static SSL_CTX *ctx;
static SSL_SESSION *ticket;
static unsigned char pattern[PATTERN + CHUNK], scratch[1 << 20];
static char request[1024], response[512], failure[300], version[32], cipher[64], group[64];
static size_t request_length, response_length;
static struct conn *goodbyes_first, *goodbyes_last, *graves, **members;
static uint64_t opened, up_and_ready, failures, finished, not_resumed, resumed_all, lost, goodbyes_cut, accepted, wrong;
static uint64_t moved, drained, moved_at_start, started, window_start, window_end;
static double cpu_start, cpu_used;
static bool running, in_window, over;
static uint64_t *latencies;
static size_t latency_count, latency_room;
static struct { uint64_t when; struct conn *conn; } *heap; /* conn NULL: open a new one */
static size_t heap_count, heap_room;

static void client_open(void);
static void setup_finished(void);

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* ---- what is printed ---- */

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double quantile(double q) { /* of the sorted latencies, in microseconds */
    size_t at = (size_t)(q * (double)latency_count);
    return (double)latencies[at < latency_count ? at : latency_count - 1] / 1e3;
}

static void print_text(const char *name, const char *text) {
    printf(",\"%s\":\"", name);
    for (; *text; text++)
        if (*text == '"' || *text == '\\') printf("\\%c", *text);
        else putchar((unsigned char)*text < ' ' ? ' ' : *text);
    putchar('"');
}

static void report(const char *head) {
    double seconds = window_end > window_start ? (double)(window_end - window_start) / 1e9 : 0;
    bool bulk = opt.mode == DOWN || opt.mode == UP;
    uint64_t count = bulk ? moved - moved_at_start : finished;
    printf("{%s\"mode\":\"%s\",\"count\":%llu,\"seconds\":%.6f,\"rate\":%.3f,\"failures\":%llu", head, MODES[opt.mode],
           (unsigned long long)count, seconds, seconds > 0 ? (double)count / seconds : 0.0, (unsigned long long)failures);
    if (latency_count) {
        qsort(latencies, latency_count, sizeof *latencies, compare);
        printf(",\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f", quantile(.5), quantile(.99), quantile(1));
    }
    printf(",\"cpu_share\":%.3f,\"resumed\":%llu,\"not_resumed\":%llu,\"accepted\":%llu,\"lost\":%llu,\"goodbyes_cut\":%llu",
           seconds > 0 ? cpu_used / seconds : 0.0, (unsigned long long)resumed_all, (unsigned long long)not_resumed,
           (unsigned long long)accepted, (unsigned long long)lost, (unsigned long long)goodbyes_cut);
    printf(",\"verified\":%s,\"wrong\":%llu", opt.verify ? "true" : "false", (unsigned long long)wrong);
    if (opt.mode == DOWN) printf(",\"client_bytes\":%llu", (unsigned long long)drained);
    print_text("tls", version);
    print_text("cipher", cipher);
    print_text("group", group);
    if (*failure) print_text("error", failure);
    puts("}");
    fflush(stdout);
}

static void note(const char *format, ...) { /* the first thing that went wrong is the one that is told */
    va_list args;
    if (*failure) return;
    va_start(args, format);
    vsnprintf(failure, sizeof failure, format, args);
    va_end(args);
}

static void give_up(const char *why) {
    note("%s", why);
    report("");
    exit(1);
}

static void *must(void *memory) {
    if (!memory) give_up("out of memory");
    return memory;
}

/* ---- the measured window ---- */

static void window_opens(void) {
    in_window = true;
    moved_at_start = moved;
    cpu_start = cpu();
    window_start = now();
}

static void window_closes(void) {
    if (over) return;
    over = true;
    if (!in_window) return;
    window_end = now();
    cpu_used = cpu() - cpu_start;
}

static void progress(uint64_t t) { /* the first tenth is warm-up; bytes end a run early, leaving out the uneven last tenth */
    double part = (double)(t - started) / 1e9 / opt.seconds;
    if (!running || over || opt.mode == IDLE || opt.mode == BACKEND_ONLY) return;
    if (opt.verify && (opt.mode == DOWN || opt.mode == UP)) { /* until every byte is there */
        if (!in_window) window_opens();
        if (part >= 1) note("not all bytes arrived in time"), failures++, window_closes();
        return;
    }
    if (opt.count) { /* so many, however long it takes */
        if (!in_window) window_opens();
        if (finished >= opt.count || part >= 1) window_closes();
        return;
    }
    if (opt.bytes && (double)moved / (double)opt.bytes / .9 > part) part = (double)moved / (double)opt.bytes / .9;
    if (!in_window && part >= .1) window_opens();
    else if (in_window && part >= 1) window_closes();
}

static void latency(uint64_t nanoseconds) {
    if (latency_count == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 1 << 16;
        latencies = must(realloc(latencies, latency_room * sizeof *latencies));
    }
    latencies[latency_count++] = nanoseconds;
}

/* ---- timers ---- */

static void timer(uint64_t when, struct conn *conn) {
    size_t at = heap_count++;
    if (at == heap_room) heap = must(realloc(heap, (heap_room = heap_room ? heap_room * 2 : 64) * sizeof *heap));
    for (; at && heap[(at - 1) / 2].when > when; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at].when = when, heap[at].conn = conn;
}

static struct conn *timer_pop(void) {
    struct conn *first = heap[0].conn;
    size_t at = 0, child, last = --heap_count;
    for (; (child = 2 * at + 1) < heap_count; at = child) {
        if (child + 1 < heap_count && heap[child + 1].when < heap[child].when) child++;
        if (heap[child].when >= heap[last].when) break;
        heap[at] = heap[child];
    }
    heap[at] = heap[last];
    return first;
}

/* ---- connections ---- */

static struct conn *conn_new(enum role role, int fd, uint32_t events) {
    struct conn *c = must(calloc(1, sizeof *c));
    struct epoll_event event = {.events = events, .data.ptr = c};
    c->role = role, c->fd = fd;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) give_up("epoll_ctl failed");
    return c;
}

static void listen_for(struct conn *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void drop_ssl(struct conn *c) {
    if (!c->ssl) return;
    SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* else OpenSSL takes the session for spoilt */
    SSL_free(c->ssl);
    c->ssl = NULL;
    ERR_clear_error();
}

static void conn_close(struct conn *c) { /* freed when the events of this round are done: some may still name it */
    if (c->role == DEAD) return;
    if (c->state == GOODBYE && c->role == CLIENT) {
        *(c->previous ? &c->previous->next : &goodbyes_first) = c->next;
        *(c->next ? &c->next->previous : &goodbyes_last) = c->previous;
    }
    drop_ssl(c);
    close(c->fd);
    c->role = DEAD;
    c->next = graves, graves = c;
}

static void reset(struct conn *c) { /* leaves no TIME_WAIT behind, so that ports do not run out */
    struct linger hard = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    conn_close(c);
}

static void goodbye(struct conn *c) { /* close_notify; the contender closes first, then we */
    SSL_shutdown(c->ssl);
    drop_ssl(c);
    c->state = GOODBYE, c->left = now();
    c->previous = goodbyes_last, c->next = NULL;
    *(goodbyes_last ? &goodbyes_last->next : &goodbyes_first) = c;
    goodbyes_last = c;
}

static void client_failed(struct conn *c, const char *what) {
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    note("%s: %s", what, reason ? reason : errno ? strerror(errno) : "closed by the contender");
    failures++;
    if (c->state == HELD || c->state >= HONEST_PING) lost++;
    reset(c);
    if (running && !over && (opt.mode == FULL || opt.mode == RESUMED)) timer(now() + SECOND / 200, NULL);
    else if (!running && failures > 100) give_up("too many failures");
    else if (!running) timer(now() + SECOND / 100, NULL), opened--;
    else if (lost >= opt.number) give_up("every connection is lost");
}

static void client_open(void) {
    struct sockaddr_in source = {.sin_family = AF_INET};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct conn *c;
    if (fd < 0) give_up(strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (opt.sources > 1) {
        source.sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)(opened % opt.sources));
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(fd, (struct sockaddr *)&source, sizeof source)) give_up("bind to a source address failed");
    }
    opened++;
    c = conn_new(CLIENT, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    c->began = now();
    c->ssl = must(SSL_new(ctx));
    SSL_set_fd(c->ssl, fd);
    SSL_set_tlsext_host_name(c->ssl, opt.host);
    if (ticket && (opt.mode == RESUMED || (opt.mode == IDLE && !opt.full))) {
        SSL_SESSION *session = must(SSL_SESSION_dup(ticket)); /* OpenSSL marks a session that was used as not resumable */
        SSL_set_session(c->ssl, session);
        SSL_SESSION_free(session);
    }
    SSL_set_connect_state(c->ssl);
    errno = 0;
    if (connect(fd, (struct sockaddr *)&opt.contender, sizeof opt.contender) && errno != EINPROGRESS) client_failed(c, "connect");
}

static int new_ticket(SSL *ssl, SSL_SESSION *session) {
    (void)ssl;
    if (opt.mode != RESUMED && opt.mode != IDLE) return 0;
    SSL_SESSION_free(ticket);
    ticket = session;
    return 1;
}

/* ---- one honest exchange: a byte, a block or an HTTP request, and its answer ---- */

/* The length of the HTTP message that begins in text, 0 while its head or body is not there yet. */
static size_t http_length(const char *text, size_t have, bool with_body) {
    const char *end = memmem(text, have, "\r\n\r\n", 4), *field;
    size_t head = end ? (size_t)(end - text) + 4 : 0, length = 0;
    if (!end) return 0;
    for (field = text; with_body && field && field < end; field = memmem(field, (size_t)(end - field), "\r\n", 2)) {
        if (*field == '\r') field += 2;
        if (!strncasecmp(field, "content-length:", 15)) length = strtoul(field + 15, NULL, 10);
        else field++;
    }
    return have >= head + length ? head + length : 0;
}

static bool ask(struct conn *c, const void *what, size_t length) {
    c->have = 0;
    return SSL_write(c->ssl, what, (int)length) == (int)length;
}

/* Reads what is there of the answer: 1 all of it, 0 not yet, -1 the connection is gone. */
static int answer(struct conn *c, size_t expect) {
    if (!c->text) c->text = must(malloc(4096));
    for (;;) {
        int got = SSL_read(c->ssl, c->text + c->have, (int)(4096 - c->have));
        if (got <= 0) {
            int error = SSL_get_error(c->ssl, got);
            return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
        }
        c->have += (size_t)got;
        if (opt.http && c->have >= 12 && memcmp(c->text, "HTTP/1.1 200", 12)) {
            note("it answers %.60s", c->text);
            return -1;
        }
        if (opt.http ? (c->expect = http_length(c->text, c->have, true)) : c->have >= expect) return 1;
        if (c->have == 4096) return -1;
    }
}

static void remember_parameters(SSL *ssl) {
    int nid = (int)SSL_get_negotiated_group(ssl);
    const char *name = nid ? OBJ_nid2sn(nid & 0xffffff) : NULL;
    snprintf(version, sizeof version, "%s", SSL_get_version(ssl));
    snprintf(cipher, sizeof cipher, "%s", SSL_get_cipher_name(ssl));
    snprintf(group, sizeof group, "%s", name ? name : "");
}

static void open_more(void) {
    while (!running && opened < opt.number && opened - up_and_ready < opt.parallel) client_open();
}

static void first_answered(struct conn *c) {
    uint64_t t = now();
    c->resumed = SSL_session_reused(c->ssl);
    if (!*version) remember_parameters(c->ssl);
    switch (opt.mode) {
    case FULL:
    case RESUMED:
        goodbye(c);
        if (!running) { /* the connection that brings the first ticket */
            if (opt.mode == RESUMED && !ticket) give_up("the contender gives no session tickets");
            running = true, started = t;
            for (uint64_t i = 0; i < opt.number; i++) client_open();
            return;
        }
        if (in_window && !over) {
            if (opt.mode == RESUMED && !c->resumed) not_resumed++;
            else finished++, latency(t - c->began);
            resumed_all += c->resumed;
        }
        if (!over) client_open();
        return;
    case IDLE:
        resumed_all += c->resumed, not_resumed += !c->resumed, finished++;
        drop_ssl(c);
        free(c->text), c->text = NULL;
        c->state = HELD;
        listen_for(c, EPOLLIN | EPOLLRDHUP);
        break;
    default:
        c->state = WAITING;
    }
    members[up_and_ready++] = c;
    if (up_and_ready == opt.number) setup_finished();
    else if (opt.mode == IDLE && !opt.full && up_and_ready == 1 && !ticket) opt.full = true;
    open_more();
}

static void handshake(struct conn *c) {
    int result = SSL_do_handshake(c->ssl), error;
    if (result == 1) {
        c->state = FIRST;
        if (!ask(c, opt.http ? request : "E", opt.http ? request_length : 1)) client_failed(c, "first write");
        return;
    }
    error = SSL_get_error(c->ssl, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) client_failed(c, "handshake");
}

/* ---- round trips ---- */

static void encrypt_ahead(struct conn *c, size_t count) { /* appends the records of count requests */
    BIO *memory = must(BIO_new(BIO_s_mem()));
    size_t left = c->total - c->used;
    if (c->used) memmove(c->records, c->records + c->used, left);
    SSL_set0_wbio(c->ssl, memory);
    for (size_t i = 0; i < count; i++) {
        if (SSL_write(c->ssl, request, (int)request_length) != (int)request_length) give_up("encrypting in advance failed");
        if (!i) {
            c->record = (size_t)BIO_pending(memory);
            c->records = must(realloc(c->records, left + count * c->record));
        }
        left += (size_t)BIO_read(memory, c->records + left, (int)c->record);
    }
    c->used = 0, c->total = left;
}

static void ping_send(struct conn *c, uint64_t meant) {
    c->began = meant, c->have = 0;
    if (opt.verify) {
        c->state = HONEST_PING;
        if (!ask(c, request, request_length)) client_failed(c, "write");
        return;
    }
    c->state = RAW_PING;
    if (c->used == c->total) {
        encrypt_ahead(c, 1000);
        if (!opt.every) c->began = now();
    }
    if (send(c->fd, c->records + c->used, c->record, MSG_NOSIGNAL) != (ssize_t)c->record) client_failed(c, "send");
    c->used += c->record;
}

static void ping_done(struct conn *c) {
    uint64_t t = now();
    if (in_window && !over) finished++, latency(t - c->began);
    if (over) return;
    if (!opt.every) ping_send(c, t);
    else if (c->began + opt.every <= t) ping_send(c, c->began + opt.every);
    else c->state = WAITING, timer(c->began + opt.every, c);
}

static void honest_ping(struct conn *c) {
    int result = answer(c, request_length);
    if (result < 0) client_failed(c, "read");
    if (result <= 0) return;
    if (opt.http ? memcmp(c->text + c->have - BODY, pattern, BODY) : c->have != request_length || memcmp(c->text, request, c->have))
        wrong++, note("an answer differs from what was sent");
    ping_done(c);
}

/* Counts the content of whole records: a TLS 1.3 record is 5 bytes of header and content + 1 byte type + 16 bytes tag (RFC 8446, 5.2). */
static void raw_ping(struct conn *c) {
    ssize_t got = recv(c->fd, scratch, sizeof scratch, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        client_failed(c, "receive");
        return;
    }
    for (size_t at = 0; at < (size_t)got;) {
        size_t left = (size_t)got - at, take = c->body_left < left ? c->body_left : left;
        if (c->body_left) {
            at += take, c->body_left -= take;
            continue;
        }
        while (c->header_have < 5 && at < (size_t)got) c->header[c->header_have++] = scratch[at++];
        if (c->header_have < 5) return;
        c->header_have = 0, c->body_left = (size_t)c->header[3] << 8 | c->header[4];
        if (c->header[0] != 0x17 || c->body_left < 17) {
            client_failed(c, "an unexpected record");
            return;
        }
        c->have += c->body_left - 17;
    }
    if (c->body_left || c->header_have || c->have < c->expect) return;
    if (c->have > c->expect) wrong++, note("an answer of %zu bytes, not %zu", c->have, c->expect);
    ping_done(c);
}

/* ---- bulk ---- */

static uint64_t share(void) { return opt.bytes / opt.number; } /* bytes of one stream */

static void stream_ended(struct conn *c, const char *problem) {
    static uint64_t ended;
    if (c->ended) return;
    c->ended = true;
    if (problem) wrong++, note("%s", problem);
    if (++ended == opt.number) window_closes();
}

static void encrypt_stream(struct conn *c) {
    BIO *memory = must(BIO_new(BIO_s_mem()));
    uint64_t left = share();
    size_t room = (size_t)(left + (left / 16384 + 2) * 22);
    c->records = must(malloc(room));
    SSL_set0_wbio(c->ssl, memory);
    while (left) {
        int part = left < 16384 ? (int)left : 16384;
        if (SSL_write(c->ssl, pattern + c->offset % PATTERN, part) != part) give_up("encrypting in advance failed");
        size_t rest = room - c->total; /* of one stream that may be more than an int holds; a record never is */
        c->total += (size_t)BIO_read(memory, c->records + c->total, rest < CHUNK ? (int)rest : (int)CHUNK);
        c->offset += (uint64_t)part, left -= (uint64_t)part;
    }
}

static void raw_up(struct conn *c) {
    size_t left = c->total - c->used;
    ssize_t sent = send(c->fd, c->records + c->used, left < 4 * CHUNK ? left : 4 * CHUNK, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) client_failed(c, "send");
        return;
    }
    c->used += (size_t)sent;
    if (c->used == c->total) listen_for(c, EPOLLRDHUP);
}

static void raw_down(struct conn *c) {
    ssize_t got = recv(c->fd, scratch, sizeof scratch, MSG_TRUNC); /* TCP drops them without a copy, tcp(7) */
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) client_failed(c, "receive");
    else drained += (uint64_t)got;
}

static void honest_up(struct conn *c) {
    while (c->offset < share()) {
        uint64_t left = share() - c->offset;
        int sent = SSL_write(c->ssl, pattern + c->offset % PATTERN, left < 16384 ? (int)left : 16384);
        if (sent <= 0) {
            int error = SSL_get_error(c->ssl, sent);
            if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) client_failed(c, "write");
            return;
        }
        c->offset += (uint64_t)sent;
    }
    goodbye(c);
}

static bool same(const void *data, uint64_t offset, size_t length) {
    return !memcmp(data, pattern + offset % PATTERN, length);
}

static void honest_down(struct conn *c) {
    for (;;) {
        int got = SSL_read(c->ssl, scratch, CHUNK), error;
        if (got > 0) {
            if (!same(scratch, c->offset, (size_t)got)) stream_ended(c, "received bytes differ from those sent");
            c->offset += (uint64_t)got, drained += (uint64_t)got;
            continue;
        }
        error = SSL_get_error(c->ssl, got);
        if (error == SSL_ERROR_WANT_READ) return;
        if (error == SSL_ERROR_ZERO_RETURN) stream_ended(c, c->offset == share() ? NULL : "a stream was cut short");
        else if (!c->ended) stream_ended(c, "a stream ended without close_notify"), client_failed(c, "read");
        if (c->role == CLIENT) conn_close(c);
        return;
    }
}

/* ---- the run ---- */

static void bulk_begins(struct conn *c) {
    if (opt.mode == DOWN) {
        c->state = opt.verify ? HONEST_DOWN : RAW_DOWN;
        if (SSL_write(c->ssl, "G", 1) != 1) client_failed(c, "write");
        else if (!opt.verify) listen_for(c, EPOLLIN | EPOLLRDHUP);
        return;
    }
    c->state = opt.verify ? HONEST_UP : RAW_UP;
    if (opt.verify) honest_up(c);
    else listen_for(c, EPOLLOUT | EPOLLRDHUP);
}

static void setup_finished(void) {
    uint64_t t = now();
    if (opt.mode == IDLE) {
        running = true;
        window_start = started, window_end = t, cpu_used = cpu();
        report("\"ready\":true,");
        return;
    }
    for (uint64_t i = 0; i < opt.number; i++) {
        struct conn *c = members[i];
        if (SSL_read(c->ssl, scratch, 1) > 0 || SSL_has_pending(c->ssl)) give_up("the contender sent more than was asked for");
        if (!opt.verify && opt.mode == UP) encrypt_stream(c);
        if (opt.mode != PING) continue;
        if (!opt.http) c->expect = request_length;
        if (!opt.verify) encrypt_ahead(c, opt.count ? (size_t)opt.count
                                          : opt.every ? (size_t)(opt.seconds * 1e9 / (double)opt.every) + 10
                                          : (size_t)(opt.seconds * (opt.number > 1 ? 120e3 : 40e3)) / opt.number + 100);
    }
    running = true, started = t = now();
    for (uint64_t i = 0; i < opt.number; i++) {
        if (opt.mode != PING) bulk_begins(members[i]);
        else if (opt.every) timer(members[i]->began = t + opt.every * i / opt.number, members[i]);
        else ping_send(members[i], now());
    }
}

static void client_event(struct conn *c, uint32_t events) {
    ssize_t got;
    errno = 0;
    if (c->state == HANDSHAKE) handshake(c);
    if (c->role == CLIENT && c->state == FIRST && (events & EPOLLIN)) {
        int result = answer(c, 1);
        if (result < 0) client_failed(c, "first answer");
        else if (result) first_answered(c);
        return;
    }
    if (c->role != CLIENT) return;
    switch (c->state) {
    case HONEST_PING: honest_ping(c); return;
    case RAW_PING: if (events & ~(uint32_t)EPOLLOUT) raw_ping(c); return;
    case RAW_DOWN: raw_down(c); return;
    case RAW_UP: if (events & EPOLLOUT) raw_up(c); else client_failed(c, "connection"); return;
    case HONEST_DOWN: honest_down(c); return;
    case HONEST_UP: honest_up(c); return;
    case HELD:
        got = recv(c->fd, scratch, sizeof scratch, MSG_TRUNC);
        if (got > 0 || (got < 0 && errno == EAGAIN)) return;
        lost++, note("an idle connection was closed"), conn_close(c);
        return;
    case GOODBYE:
        while ((got = recv(c->fd, scratch, sizeof scratch, MSG_TRUNC)) > 0) {}
        if (got == 0 || errno != EAGAIN) reset(c);
        return;
    case WAITING:
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) client_failed(c, "connection");
        return;
    default:
        if (c->state == FIRST && (events & (EPOLLHUP | EPOLLERR))) client_failed(c, "connection");
    }
}

/* ---- the backend ---- */

static void backend_http(struct conn *b) {
    ssize_t got;
    size_t length;
    bool last = false;
    if (!b->text) b->text = must(malloc(16384));
    got = recv(b->fd, b->text + b->have, 16384 - b->have, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || b->have + (size_t)got == 16384) {
        free(b->text), b->text = NULL;
        conn_close(b);
        return;
    }
    b->have += (size_t)got;
    while ((length = http_length(b->text, b->have, false))) {
        last = memmem(b->text, length, " HTTP/1.0\r\n", 11) || memmem(b->text, length, "onnection: close\r\n", 18);
        if (send(b->fd, response, response_length, MSG_NOSIGNAL) != (ssize_t)response_length) last = true;
        memmove(b->text, b->text + length, b->have -= length);
    }
    if (last) free(b->text), b->text = NULL, conn_close(b);
}

static void backend_push(struct conn *b) {
    size_t length = CHUNK;
    ssize_t sent;
    if (opt.verify && share() - b->offset < length) length = (size_t)(share() - b->offset);
    sent = send(b->fd, pattern + (opt.verify ? b->offset % PATTERN : 0), length, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) conn_close(b);
        return;
    }
    moved += (uint64_t)sent, b->offset += (uint64_t)sent;
    if (opt.verify && b->offset == share()) conn_close(b);
}

static void backend_take(struct conn *b) {
    ssize_t got = recv(b->fd, scratch, opt.verify ? CHUNK : sizeof scratch, opt.verify ? 0 : MSG_TRUNC);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        if (opt.verify) stream_ended(b, b->offset == share() ? NULL : "a stream was cut short");
        conn_close(b);
        return;
    }
    if (opt.verify && !same(scratch, b->offset, (size_t)got)) stream_ended(b, "bytes at the backend differ from those sent");
    moved += (uint64_t)got, b->offset += (uint64_t)got;
}

static void backend_event(struct conn *b, uint32_t events) {
    ssize_t got;
    if (opt.http) {
        backend_http(b);
        return;
    }
    if (b->flowing && opt.mode == UP) {
        backend_take(b);
        return;
    }
    if (b->flowing && opt.mode == DOWN && (events & EPOLLOUT)) {
        backend_push(b);
        return;
    }
    got = recv(b->fd, scratch, opt.mode == UP || opt.mode == DOWN ? 1 : 65536, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        conn_close(b);
        return;
    }
    if (opt.mode == DOWN && *scratch == 'G') {
        b->flowing = true;
        listen_for(b, EPOLLOUT);
        return;
    }
    if (opt.mode == UP) b->flowing = true;
    if (send(b->fd, scratch, (size_t)got, MSG_NOSIGNAL) != got) conn_close(b);
}

static void backend_accept(struct conn *listener) {
    int yes = 1, fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        conn_new(BACKEND, fd, EPOLLIN);
        accepted++;
    }
    if (errno == EMFILE || errno == ENFILE) give_up("the backend has no file descriptors left");
}

static void backend_listen(void) {
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&opt.backend, sizeof opt.backend) || listen(fd, 4096)) give_up("the backend cannot listen there");
    conn_new(LISTENER, fd, EPOLLIN);
    fputs("backend ready\n", stderr);
}

/* ---- start and loop ---- */

static void input_event(struct conn *input) { /* idle and backend end when standard input does */
    if (read(input->fd, scratch, sizeof scratch) <= 0) over = true, conn_close(input);
}

static void housekeeping(uint64_t t) {
    while (goodbyes_first && t - goodbyes_first->left > LINGER) goodbyes_cut++, reset(goodbyes_first);
    while (heap_count && heap[0].when <= t && !over) {
        uint64_t when = heap[0].when;
        struct conn *c = timer_pop();
        if (!c && running) client_open();
        else if (!c && opt.mode == RESUMED) client_open();
        else if (!c) open_more();
        else if (c->role == CLIENT) ping_send(c, when);
    }
    if (!running && opt.connects && (double)(t - started) / 1e9 > opt.setup) give_up("the connections were not up in time");
    progress(t);
}

static void loop(void) {
    struct epoll_event events[256];
    while (!over) {
        uint64_t t = now(), wait = SECOND / 50;
        struct timespec timeout;
        int count;
        if (heap_count) wait = heap[0].when <= t ? 0 : heap[0].when - t < wait ? heap[0].when - t : wait;
        timeout.tv_sec = 0, timeout.tv_nsec = (long)wait;
        count = epoll_pwait2(epoll_fd, events, 256, &timeout, NULL);
        for (int i = 0; i < count; i++) {
            struct conn *c = events[i].data.ptr;
            if (c->role == CLIENT) client_event(c, events[i].events);
            else if (c->role == BACKEND) backend_event(c, events[i].events);
            else if (c->role == LISTENER) backend_accept(c);
            else if (c->role == INPUT) input_event(c);
        }
        while (graves) {
            struct conn *dead = graves;
            graves = dead->next;
            free(dead->text), free(dead->records), free(dead);
        }
        housekeeping(now());
    }
}

static void raise_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 200000) { /* root may */
        struct rlimit more = {200000, 200000};
        if (!setrlimit(RLIMIT_NOFILE, &more)) return;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void tls_ready(void) {
    ctx = must(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL); /* whom it talks to is not what is measured */
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, new_ticket);
    if (!SSL_CTX_set_ciphersuites(ctx, opt.ciphers)) give_up("--ciphers: not known");
    if (opt.groups && !SSL_CTX_set1_groups_list(ctx, opt.groups)) give_up("--groups: not known");
    if (opt.cert && SSL_CTX_use_certificate_chain_file(ctx, opt.cert) != 1) give_up("--cert: not a certificate that can be read");
    if (opt.key && SSL_CTX_use_PrivateKey_file(ctx, opt.key, SSL_FILETYPE_PEM) != 1) give_up("--key: not the key of the certificate");
}

static void content_ready(void) {
    uint64_t x = 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < PATTERN; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        pattern[i] = (unsigned char)(x >> 32);
    }
    memcpy(pattern + PATTERN, pattern, CHUNK);
    if (opt.http) {
        request_length = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", opt.http, opt.host);
        response_length = (size_t)snprintf(response, sizeof response,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", BODY);
        memcpy(response + response_length, pattern, BODY);
        response_length += BODY;
    } else {
        request_length = opt.size;
        memcpy(request, pattern, request_length);
    }
}

static const char USAGE[] =
    "load MODE [options]     prints one JSON object; see docs/benchmarks.md\n"
    "modes:  full      --number loops of: connect, full handshake, one byte there and back, close\n"
    "        resumed   the same with the session ticket of an earlier connection\n"
    "        down      --number streams, backend to client        up  client to backend (--bytes in all, made in advance)\n"
    "        ping      --number connections, --size bytes there and back; --every MICROSECONDS paces each (open loop)\n"
    "        idle      --number connections, each with one byte there and back; prints, holds them until standard input ends\n"
    "        backend   only the backend, until standard input ends\n"
    "  --connect HOST:PORT   the contender               --backend HOST:PORT   listen here as what is behind it\n"
    "  --cert F --key F      the client's identity       --seconds T           of the run, the first tenth warm-up (5)\n"
    "  --number N            (1; full, resumed: 16)      --sources N           client addresses 127.0.0.2 and on (1)\n"
    "  --bytes B             in all (up: 1 GiB)          --size N              bytes of a round trip (100)\n"
    "  --http PATH           full, resumed, ping, idle: a GET, answered by the backend with 100 bytes\n"
    "  --host NAME           SNI and Host (localhost)    --verify              everything through OpenSSL, every byte compared\n"
    "  --parallel N          handshakes at once (32)     --setup T             seconds for all connections to be up (60)\n"
    "  --count N             full, resumed, ping: end when so many are done, without warm-up\n"
    "  --full                idle: no resumption         --ciphers, --groups   as OpenSSL names them (TLS_AES_256_GCM_SHA384)\n";

static void usage(const char *why) {
    fprintf(stderr, "error: %s\n%s", why, USAGE);
    exit(2);
}

static struct sockaddr_in address(const char *text) {
    struct sockaddr_in result = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host) usage("an address is IPV4:PORT");
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    result.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &result.sin_addr) != 1 || !result.sin_port) usage("an address is IPV4:PORT");
    return result;
}

static uint64_t count_of(const char *text) {
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text || *end || !value) usage("a number is a positive whole number");
    return value;
}

static void read_options(int argc, char **argv) {
    static const struct option names[] = {
        {"connect", 1, 0, 'c'}, {"backend", 1, 0, 'b'}, {"cert", 1, 0, 'C'}, {"key", 1, 0, 'K'}, {"seconds", 1, 0, 't'},
        {"number", 1, 0, 'n'}, {"sources", 1, 0, 's'}, {"bytes", 1, 0, 'B'}, {"size", 1, 0, 'z'}, {"every", 1, 0, 'e'},
        {"http", 1, 0, 'h'}, {"host", 1, 0, 'H'}, {"verify", 0, 0, 'v'}, {"parallel", 1, 0, 'p'}, {"setup", 1, 0, 'S'},
        {"full", 0, 0, 'f'}, {"count", 1, 0, 'N'}, {"ciphers", 1, 0, 'x'}, {"groups", 1, 0, 'g'}, {"help", 0, 0, '?'}, {0, 0, 0, 0}};
    int letter, mode = 0;
    if (argc < 2 || !strcmp(argv[1], "--help")) usage("which mode?");
    while (mode <= BACKEND_ONLY && strcmp(argv[1], MODES[mode])) mode++;
    if (mode > BACKEND_ONLY) usage("there is no such mode");
    opt.mode = (enum mode)mode;
    while ((letter = getopt_long(argc - 1, argv + 1, "", names, NULL)) != -1) switch (letter) {
        case 'c': opt.contender = address(optarg), opt.connects = true; break;
        case 'b': opt.backend = address(optarg), opt.listens = true; break;
        case 'C': opt.cert = optarg; break;
        case 'K': opt.key = optarg; break;
        case 't': opt.seconds = strtod(optarg, NULL); break;
        case 'n': opt.number = count_of(optarg); break;
        case 's': opt.sources = count_of(optarg); break;
        case 'B': opt.bytes = count_of(optarg); break;
        case 'z': opt.size = count_of(optarg); break;
        case 'N': opt.count = count_of(optarg); break;
        case 'e': opt.every = count_of(optarg) * 1000; break;
        case 'h': opt.http = optarg; break;
        case 'H': opt.host = optarg; break;
        case 'v': opt.verify = true; break;
        case 'p': opt.parallel = count_of(optarg); break;
        case 'S': opt.setup = strtod(optarg, NULL); break;
        case 'f': opt.full = true; break;
        case 'x': opt.ciphers = optarg; break;
        case 'g': opt.groups = optarg; break;
        default: usage("an option that it does not have");
    }
    if (optind < argc - 1) usage("an argument too many");
    if (opt.mode == BACKEND_ONLY ? !opt.listens || opt.connects : !opt.connects) usage("--connect goes with every mode but backend");
    if (opt.http && (opt.mode == UP || opt.mode == DOWN)) usage("--http has no bulk");
    if (opt.size > sizeof request || (opt.http && strlen(opt.http) + strlen(opt.host) > 900)) usage("too long");
    if (!(opt.seconds > 0) || !(opt.setup > 0)) usage("times are positive");
    if (!opt.number) opt.number = opt.mode == FULL || opt.mode == RESUMED ? 16 : 1;
    if (!opt.bytes && (opt.mode == UP || (opt.mode == DOWN && opt.verify))) opt.bytes = 1ull << 30;
    if (opt.mode == IDLE && opt.sources == 1 && opt.number > 20000) opt.sources = opt.number / 20000 + 1;
}

int main(int argc, char **argv) {
    bool nothing;
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000);
    raise_limit();
    content_ready();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    members = must(calloc(opt.number, sizeof *members));
    if (opt.listens) backend_listen();
    started = now();
    if (opt.mode == IDLE || opt.mode == BACKEND_ONLY) {
        struct stat input;
        if (fstat(0, &input) || !(S_ISFIFO(input.st_mode) || S_ISSOCK(input.st_mode) || isatty(0)))
            usage("idle and backend hold until standard input ends: give them a pipe or a terminal");
        conn_new(INPUT, 0, EPOLLIN);
    }
    if (opt.connects) {
        tls_ready();
        if (opt.mode == FULL) {
            running = true;
            for (uint64_t i = 0; i < opt.number; i++) client_open();
        } else if (opt.mode == RESUMED || (opt.mode == IDLE && !opt.full)) client_open(); /* it brings the first ticket */
        else open_more();
    }
    loop();
    nothing = opt.mode == UP || opt.mode == DOWN ? moved == moved_at_start : opt.mode != BACKEND_ONLY && !finished;
    if (nothing && not_resumed) note("no connection was resumed, %llu were made anew", (unsigned long long)not_resumed);
    if (nothing) note("nothing was finished");
    report(opt.mode == IDLE ? "\"ready\":false," : "");
    return nothing || wrong ? 1 : 0;
}
