// Directories and links by way of a C library. Prints a line for each thing that was tried, with the error it saw; the directory
// is /rw.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// More than the C library reads at once.
#define FILES 1500

static void number(const char *what, long value) {
    if (value < 0) {
        printf("%s: %s\n", what, strerror(errno));
    } else {
        printf("%s: %ld\n", what, value);
    }
}

static void touch(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd < 0) {
        printf("%s: %s\n", path, strerror(errno));
    } else {
        close(fd);
    }
}

static void listing(void) {
    char path[64], seen[FILES] = {0};
    number("mkdir", mkdir("/rw/c-many", 0700));
    number("mkdir again", mkdir("/rw/c-many", 0700));
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "/rw/c-many/%04d", i);
        touch(path);
    }
    DIR *dir = opendir("/rw/c-many");
    number("opendir", dir != NULL);
    int files = 0, others = 0, twice = 0, index;
    long there = -1;
    char then[16] = "";
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (sscanf(entry->d_name, "%4d", &index) == 1) {
            twice += seen[index]++ != 0;
            if (++files == 700) {
                there = telldir(dir);
                entry = readdir(dir);
                strcpy(then, entry->d_name);
                seekdir(dir, there);
            }
        } else {
            others++;
        }
    }
    printf("files: %d, others: %d, twice: %d\n", files, others, twice);
    seekdir(dir, there);
    struct dirent *again = readdir(dir);
    number("the same place", again != NULL && strcmp(again->d_name, then) == 0);
    rewinddir(dir);
    files = 0;
    // Removing what was read does not disturb the reading.
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (sscanf(entry->d_name, "%4d", &index) == 1) {
            snprintf(path, sizeof path, "/rw/c-many/%04d", index);
            files += unlink(path) == 0;
        }
    }
    printf("removed: %d\n", files);
    number("closedir", closedir(dir));
    number("rmdir", rmdir("/rw/c-many"));
    number("rmdir again", rmdir("/rw/c-many"));
    number("opendir missing", opendir("/rw/missing") != NULL ? 0 : -1);
    number("opendir a file", opendir("/rw/file") != NULL ? 0 : -1);
}

static void links(void) {
    char target[64] = {0};
    struct stat stat_of;
    number("symlink", symlink("file", "/rw/c-link"));
    number("readlink", readlink("/rw/c-link", target, sizeof target));
    printf("target: %s\n", target);
    number("lstat", lstat("/rw/c-link", &stat_of));
    number("is a link", S_ISLNK(stat_of.st_mode));
    number("stat", stat("/rw/c-link", &stat_of));
    number("is a file", S_ISREG(stat_of.st_mode));
    number("open without following", open("/rw/c-link", O_RDONLY | O_NOFOLLOW));
    number("symlink outside", symlink("/etc/passwd", "/rw/c-outside"));
    number("open an outward link", open("/rw/outside", O_RDONLY));
    number("open an absolute link", open("/rw/absolute", O_RDONLY));
    number("link", link("/rw/file", "/rw/c-hard"));
    number("stat", stat("/rw/c-hard", &stat_of));
    number("links", stat_of.st_nlink);
    number("rename", rename("/rw/c-hard", "/rw/c-other"));
    number("rename missing", rename("/rw/c-hard", "/rw/c-other"));
    number("rename into read-only", rename("/rw/c-other", "/ro/c-other"));
    number("unlink", unlink("/rw/c-other"));
    number("unlink", unlink("/rw/c-link"));
    number("unlink a directory", unlink("/rw/dir"));
    number("access", access("/rw/file", R_OK));
    number("access missing", access("/rw/missing", R_OK));
    number("chdir", chdir("/rw/dir"));
    number("relative", open("inner", O_RDONLY) >= 0 ? 0 : -1);
    number("above", open("../../secret/key", O_RDONLY));
}

int main(void) {
    listing();
    links();
    return 0;
}
