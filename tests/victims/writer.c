// SPDX-License-Identifier: Apache-2.0
// The load of the benchmark: MIB of populated memory, PAGES random pages written a second (64 random bytes in each), and a
// thread that reads CLOCK_MONOTONIC in a tight loop and keeps the longest times in which it did not run.
//   writer MIB PAGES
//   gaps -> "gaps NS NS ..." the longest ones since the last question, longest first, and starts anew
//   check -> "ok WRITTEN"   park -> "parked" (no writing and no measuring until the next command)   quit -> status 7
#include "victim.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, GAPS = 8, WRITE = 64, TICK_NS = 1000000 };

static uint8_t *memory;
static uint64_t pages, rate;
static atomic_ulong written;
static atomic_int parked, quit;
static atomic_long gaps[GAPS];
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time); // through the vdso: no system call
	return time.tv_sec * 1000000000l + time.tv_nsec;
}

static void remember(int64_t gap)
{
	for (int i = 0; i < GAPS; i++)
		if (gap > gaps[i])
			gap = atomic_exchange(&gaps[i], gap);
}

static void wait_while_parked(void)
{
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
}

static void *measure(void *unused)
{
	for (int64_t before = now(), after; !quit; before = after) {
		after = now();
		if (after - before > 20000)
			remember(after - before);
		if (parked) {
			wait_while_parked();
			after = now();
		}
	}
	return unused;
}

static void write_one(uint64_t *state)
{
	uint64_t *at = (uint64_t *)(memory + next_random(state) % pages * PAGE + next_random(state) % (PAGE / WRITE) * WRITE);
	for (int i = 0; i < WRITE / 8; i++)
		at[i] = next_random(state);
	written++;
}

static void *write_pages(void *unused)
{
	uint64_t state = 42, done = 0;
	int64_t begin = now();
	while (!quit) {
		clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = TICK_NS}, NULL);
		if (parked) {
			wait_while_parked();
			begin = now();
			done = 0;
		}
		for (uint64_t due = (now() - begin) / 1000 * rate / 1000000; done < due; done++)
			write_one(&state);
	}
	return unused;
}

// Half of each page like pointers and small numbers, half like text: what a heap compresses to, roughly.
static void populate(void)
{
	uint64_t state = 7;
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
	for (uint64_t i = 0; i < pages * PAGE / 8; i += 4) {
		uint64_t *words = (uint64_t *)memory + i, random = next_random(&state);
		words[0] = 0x7f0000000000u + (random & 0xffffff0);
		words[1] = random >> 56;
		words[2] = random & 0x3f3f3f3f3f3f3f3f;
		words[3] = i;
	}
}

int main(int argc, char **argv)
{
	pthread_t threads[2];
	CHECK(argc == 3);
	pages = strtoul(argv[1], NULL, 10) * 256;
	rate = strtoul(argv[2], NULL, 10);
	populate();
	CHECK(pthread_create(&threads[0], NULL, measure, NULL) == 0);
	CHECK(pthread_create(&threads[1], NULL, write_pages, NULL) == 0);
	answer("ready %d", getpid());
	for (;;) {
		char line[64], text[512] = "gaps";
		read_command(line, sizeof(line));
		if (atomic_exchange(&parked, 0))
			pthread_mutex_unlock(&gate);
		if (!strcmp(line, "gaps")) {
			for (int i = 0; i < GAPS; i++)
				snprintf(text + strlen(text), sizeof(text) - strlen(text), " %ld", atomic_exchange(&gaps[i], 0));
			answer("%s", text);
		} else if (!strcmp(line, "park")) {
			pthread_mutex_lock(&gate);
			parked = 1;
			answer("parked");
		} else if (!strcmp(line, "quit")) {
			quit = 1;
			for (int i = 0; i < 2; i++)
				pthread_join(threads[i], NULL);
			return 7;
		} else {
			answer("ok %lu", written);
		}
	}
}
