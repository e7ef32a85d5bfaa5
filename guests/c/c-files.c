// Files by way of a C library: buffered streams, positions, appending, times, waiting. Prints a line for each thing that was tried,
// with the error it saw; the arguments are none, the directory is /rw.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void number(const char *what, long value) {
    if (value < 0) {
        printf("%s: %s\n", what, strerror(errno));
    } else {
        printf("%s: %ld\n", what, value);
    }
}

static void descriptors(void) {
    char bytes[64] = {0};
    int fd = open("/rw/c-made", O_CREAT | O_RDWR | O_TRUNC, 0600);
    number("open", fd >= 0 ? 0 : -1);
    number("write", write(fd, "0123456789", 10));
    number("lseek", lseek(fd, 3, SEEK_SET));
    number("read", read(fd, bytes, 4));
    printf("bytes: %s\n", bytes);
    number("pread", pread(fd, bytes, 2, 8));
    number("pwrite", pwrite(fd, "ab", 2, 0));
    struct iovec parts[3] = {{"x", 1}, {"", 0}, {"yz", 2}};
    number("writev", writev(fd, parts, 3));
    number("position", lseek(fd, 0, SEEK_CUR));
    number("end", lseek(fd, 0, SEEK_END));
    number("before the start", lseek(fd, -1, SEEK_SET));
    number("ftruncate", ftruncate(fd, 4));
    number("fsync", fsync(fd));
    struct stat stat;
    number("fstat", fstat(fd, &stat));
    printf("size: %lld, regular: %d\n", (long long)stat.st_size, S_ISREG(stat.st_mode));
    number("flags", fcntl(fd, F_GETFL) & O_APPEND);
    number("append", fcntl(fd, F_SETFL, O_APPEND));
    number("to the start", lseek(fd, 0, SEEK_SET));
    number("write", write(fd, "!", 1));
    number("position", lseek(fd, 0, SEEK_CUR));
    number("close", close(fd));
    number("close again", close(fd));
    fd = open("/rw/c-made", O_RDONLY);
    number("write what is read", write(fd, "x", 1));
    number("exclusive", open("/rw/c-made", O_CREAT | O_EXCL | O_RDWR, 0600));
    number("read only", open("/ro/file", O_RDWR));
    number("missing", open("/rw/missing", O_RDONLY));
    number("outside", open("/secret/key", O_RDONLY));
    number("above", open("/rw/../secret/key", O_RDONLY));
    number("as a directory", open("/rw/c-made", O_RDONLY | O_DIRECTORY));
    number("a directory", open("/rw/dir", O_WRONLY));
    number("isatty", isatty(1));
}

static void streams(void) {
    char line[64];
    FILE *file = fopen("/rw/c-made", "w+");
    number("fprintf", fprintf(file, "one\ntwo\nthree\n"));
    rewind(file);
    while (fgets(line, sizeof line, file) != NULL) {
        printf("line: %s", line);
    }
    number("at its end", feof(file) != 0);
    number("fseek", fseek(file, -6, SEEK_END));
    number("ftell", ftell(file));
    printf("line: %s", fgets(line, sizeof line, file));
    fclose(file);
    file = fopen("/rw/c-made", "a");
    fputs("four\n", file);
    fclose(file);
    file = fopen("/rw/c-made", "r");
    int count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        count++;
    }
    number("lines", count);
    fclose(file);
    number("more than a buffer", (file = fopen("/rw/c-made", "w")) != NULL);
    for (int i = 0; i < 100000; i++) {
        fprintf(file, "%08d\n", i);
    }
    fclose(file);
    struct stat stat_of;
    number("stat", stat("/rw/c-made", &stat_of));
    printf("size: %lld\n", (long long)stat_of.st_size);
}

static void times(void) {
    struct timespec set[2] = {{1000000000, 5}, {1000000001, 7}};
    struct stat stat_of;
    number("utimensat", utimensat(AT_FDCWD, "/rw/c-made", set, 0));
    stat("/rw/c-made", &stat_of);
    printf("times: %lld.%ld %lld.%ld\n", (long long)stat_of.st_atim.tv_sec, stat_of.st_atim.tv_nsec,
           (long long)stat_of.st_mtim.tv_sec, stat_of.st_mtim.tv_nsec);
    struct timespec before, after, wait = {0, 10 * 1000 * 1000};
    clock_gettime(CLOCK_MONOTONIC, &before);
    number("nanosleep", nanosleep(&wait, NULL));
    clock_gettime(CLOCK_MONOTONIC, &after);
    long long slept = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
    number("slept", slept >= 10 * 1000 * 1000);
    number("year", time(NULL) > 1700000000);
    struct pollfd polled[2] = {{0, POLLIN, 0}, {1, POLLOUT, 0}};
    number("poll", poll(polled, 2, 1000));
    unsigned char random[16], other[16];
    number("random", getentropy(random, sizeof random) + getentropy(other, sizeof other));
    number("random differs", memcmp(random, other, sizeof random) != 0);
    number("unlink", unlink("/rw/c-made"));
}

int main(void) {
    descriptors();
    streams();
    times();
    return 3;
}
