// SPDX-License-Identifier: Apache-2.0
// One mapping of each kind and attribute that a restore must bring back, with known content.
//   mappings FILE (its own file of 16 pages, made here)     check -> "ok", having looked at all of it    quit -> "bye", status 7
#include "victim.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 // Linux 6.13
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

enum { PAGE = 4096, PAGES = 16, SIZE = PAGE * PAGES };

static uint8_t *plain, *hidden, *read_only, *file_private, *file_shared, *shared, *view, *moved, *locked, *reserve, *guarded, *down;

static uint8_t *map(int prot, int flags, int fd)
{
	uint8_t *at = mmap(NULL, SIZE, prot, flags, fd, 0);
	CHECK(at != MAP_FAILED);
	return at;
}

static uint8_t *anonymous(void)
{
	uint8_t *at = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); // so that neighbours do not merge
	return at;
}

static void fill(uint8_t *at, uint64_t seed)
{
	for (size_t i = 0; i < SIZE / 8; i++)
		((uint64_t *)at)[i] = seed * 1000003 + i;
}

static void check(const uint8_t *at, uint64_t seed)
{
	for (size_t i = 0; i < SIZE / 8; i++)
		CHECK(((const uint64_t *)at)[i] == seed * 1000003 + i);
}

static void make(const char *path)
{
	static const int advice[] = {MADV_DONTFORK, MADV_DONTDUMP, MADV_WIPEONFORK, MADV_SEQUENTIAL, MADV_HUGEPAGE, MADV_NOHUGEPAGE};
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0 && ftruncate(fd, SIZE) == 0);
	fill(file_shared = map(PROT_READ | PROT_WRITE, MAP_SHARED, fd), 1);
	CHECK(munmap(file_shared, SIZE) == 0);
	file_shared = map(PROT_READ, MAP_SHARED, fd);
	file_private = map(PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	close(fd);
	memset(file_private + PAGE, 0, PAGE);	    // zero where the file is not
	memset(file_private + 2 * PAGE, 7, PAGE);   // data
	CHECK(mprotect(file_private, SIZE, PROT_READ) == 0);
	fill(plain = anonymous(), 2);
	fill(hidden = anonymous(), 3);
	CHECK(mprotect(hidden, SIZE, PROT_NONE) == 0);
	fill(read_only = anonymous(), 4);
	CHECK(mprotect(read_only, SIZE, PROT_READ | PROT_EXEC) == 0);
	fill(shared = map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1), 5);
	view = mremap(shared, 0, SIZE / 2, MREMAP_MAYMOVE);		// the same pages again
	CHECK(view != MAP_FAILED && mprotect(view, SIZE / 2, PROT_READ) == 0);
	moved = map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	fill(moved, 6);
	CHECK(munmap(moved, 4 * PAGE) == 0);				// the object begins before what is mapped of it
	fill(locked = anonymous(), 7);
	CHECK(mlock(locked, SIZE) == 0);
	reserve = mmap(NULL, 1ul << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(reserve != MAP_FAILED && mprotect(reserve + SIZE, SIZE, PROT_READ | PROT_WRITE) == 0);
	fill(reserve + SIZE, 8);
	fill(guarded = anonymous(), 9);
	madvise(guarded + 3 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL);
	down = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
	CHECK(down != MAP_FAILED);
	fill(down, 10);
	for (size_t i = 0; i < sizeof(advice) / sizeof(*advice); i++)
		CHECK(madvise(anonymous(), SIZE, advice[i]) == 0 || errno == EINVAL);
	prctl(PR_SET_VMA, 0, anonymous(), SIZE, "a name (of mine)");
}

static void check_all(void)
{
	check(plain, 2);
	check(read_only, 4);
	check(file_shared, 1);
	CHECK(mprotect(hidden, SIZE, PROT_READ) == 0);
	check(hidden, 3);
	CHECK(mprotect(hidden, SIZE, PROT_NONE) == 0);
	for (size_t i = 0; i < PAGE; i++)
		CHECK(file_private[PAGE + i] == 0 && file_private[2 * PAGE + i] == 7);
	CHECK(!memcmp(file_private, file_shared, PAGE) && !memcmp(file_private + 3 * PAGE, file_shared + 3 * PAGE, PAGE));
	check(shared, 5);
	CHECK(!memcmp(view, shared, SIZE / 2));
	shared[0] ^= 1; // both views must show it
	CHECK(view[0] == shared[0]);
	shared[0] ^= 1;
	CHECK(*(uint64_t *)(moved + 4 * PAGE) == 6 * 1000003 + 4 * PAGE / 8);
	check(locked, 7);
	check(reserve + SIZE, 8);
	check(down, 10);
}

int main(int argc, char **argv)
{
	char line[256];
	CHECK(argc == 2);
	make(argv[1]);
	answer("ready %d", getpid());
	for (;;) {
		read_command(line, sizeof(line));
		if (!strcmp(line, "quit"))
			break;
		check_all();
		answer("ok 1");
	}
	answer("bye");
	return 7;
}
