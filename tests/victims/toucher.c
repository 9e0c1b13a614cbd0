// SPDX-License-Identifier: Apache-2.0
// Memory whose every page is written once and then again as told; it measures what a write costs it (bench/trackers.py).
//   toucher MIB 4k|thp -> "ready PID ADDRESS"
//   touch PERCENT -> "ok NANOSECONDS PAGES": that share of the pages, evenly spread, one word in each
//   protect PERCENT -> the same with mprotect(PROT_READ) before and a SIGSEGV handler that lifts it page by page:
//                      "ok NANOSECONDS PAGES NANOSECONDS-OF-MPROTECT"
#include "victim.h"
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, HUGE = 2 << 20 };
static uint8_t *base;
static long pages;

static long nanoseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000 + now.tv_nsec;
}

static void on_write(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	CHECK(mprotect((void *)((uintptr_t)info->si_addr & -PAGE), PAGE, PROT_READ | PROT_WRITE) == 0);
}

// Page i is written if the share grows past another whole number there.
static long touch(long percent, long *touched)
{
	static uint64_t value;
	long begin = nanoseconds();
	*touched = 0;
	for (long i = 0; i < pages; i++) {
		if ((i + 1) * percent / 100 == i * percent / 100)
			continue;
		*(volatile uint64_t *)(base + i * PAGE) = ++value;
		++*touched;
	}
	return nanoseconds() - begin;
}

static void with_mprotect(long percent)
{
	long touched, begin = nanoseconds();
	CHECK(mprotect(base, pages * PAGE, PROT_READ) == 0);
	long armed = nanoseconds() - begin, spent = touch(percent, &touched);
	CHECK(mprotect(base, pages * PAGE, PROT_READ | PROT_WRITE) == 0);
	answer("ok %ld %ld %ld", spent, touched, armed);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = on_write, .sa_flags = SA_SIGINFO};
	char line[64];
	long percent, touched;
	CHECK(argc == 3);
	CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	pages = atol(argv[1]) * 256;
	uint8_t *room = mmap(NULL, pages * PAGE + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(room != MAP_FAILED);
	base = (uint8_t *)(((uintptr_t)room + HUGE - 1) & -HUGE);
	madvise(base, pages * PAGE, strcmp(argv[2], "thp") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	touch(100, &touched);
	answer("ready %d %lu", getpid(), (unsigned long)base);
	for (;;) {
		read_command(line, sizeof(line));
		if (sscanf(line, "protect %ld", &percent) == 1) {
			with_mprotect(percent);
		} else if (sscanf(line, "touch %ld", &percent) == 1) {
			long spent = touch(percent, &touched);
			answer("ok %ld %ld", spent, touched);
		} else {
			answer("bye");
			return 0;
		}
	}
}
