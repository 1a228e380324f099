/* The floor: what a request over loopback costs at least.
 *
 * One thread, one epoll loop, one fixed answer. It parses nothing: it counts the empty lines that
 * end the heads of requests without bodies, and writes as many answers in one go. What a real
 * server needs beyond this is its own cost; the rest is the kernel's.
 *
 * cc -O2 -o floor floor.c && ./floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 65536
#define ANSWERS_MAX 256

/* As long as the project's answer to GET /keys. */
static const char answer[] =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
    "content-length: 48\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
    "{\"keyId\":\"936da01f-9abd-4d9d-80c7-02af85c822a8\"}";

/* How much of "\r\n\r\n" a connection's input has ended with. */
static unsigned char matched[FDS_MAX];
static char input[65536];
static char output[ANSWERS_MAX * (sizeof answer - 1)];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Answers the requests in the input, or returns -1 if the connection is of no more use. */
static int serve(int fd) {
    ssize_t length = read(fd, input, sizeof input);
    if (length <= 0) return length < 0 && errno == EAGAIN ? 0 : -1;
    int answers = 0;
    unsigned char state = matched[fd];
    for (ssize_t i = 0; i < length; i++) {
        if (input[i] == ((state & 1) ? '\n' : '\r')) {
            if (++state == 4) {
                state = 0;
                answers++;
            }
        } else {
            state = input[i] == '\r';
        }
    }
    matched[fd] = state;
    while (answers > 0) {
        int now = answers < ANSWERS_MAX ? answers : ANSWERS_MAX;
        ssize_t size = now * (ssize_t)(sizeof answer - 1);
        if (write(fd, output, size) != size) return -1;
        answers -= now;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: floor PORT\n");
        return 2;
    }
    for (int i = 0; i < ANSWERS_MAX; i++)
        memcpy(output + i * (sizeof answer - 1), answer, sizeof answer - 1);
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) fail("bind");
    if (listen(listener, 1024)) fail("listen");
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                if (serve(fd)) close(fd);
                continue;
            }
            fd = accept4(listener, 0, 0, SOCK_NONBLOCK);
            if (fd < 0) continue;
            if (fd >= FDS_MAX) {
                close(fd);
                continue;
            }
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            matched[fd] = 0;
            event.data.fd = fd;
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
