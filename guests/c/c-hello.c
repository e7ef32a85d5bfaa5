/* A command in C: greets the name in its first argument with the word in GREETING, counts what it reads and repeats it, and ends with the
 * code in its second argument. Proves that a module of wasi-libc gets its arguments, environment, input, outputs and exit code. */

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const char *greeting = getenv("GREETING");
    printf("%s, %s!\n", greeting ? greeting : "Hello", argc > 1 ? argv[1] : "World");

    static char chunk[64 << 10];
    size_t bytes = 0, lines = 0, read;
    while ((read = fread(chunk, 1, sizeof chunk, stdin)) > 0) {
        bytes += read;
        for (size_t at = 0; at < read; at++)
            lines += chunk[at] == '\n';
        fwrite(chunk, 1, read, stdout);
    }
    printf("%zu bytes, %zu lines\n", bytes, lines);
    fprintf(stderr, "c-hello: done\n");
    return argc > 2 ? atoi(argv[2]) : 0;
}
