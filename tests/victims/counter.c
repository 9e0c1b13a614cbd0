// SPDX-License-Identifier: Apache-2.0
// One thread that counts without ever waiting: a table of counters in the heap and their sum, checked as it goes.
//   check -> "ok COUNT"    park -> "parked" (no counting until the next command)    quit -> "bye", status 7
#include "victim.h"
#include <poll.h>

enum { SLOTS = 1 << 18, BATCH = 20000 }; // 2 MiB of counters

static uint64_t *table;
static uint64_t count, sum, state = 1;

static void count_batch(void)
{
	for (int i = 0; i < BATCH; i++) {
		uint64_t slot = next_random(&state) % SLOTS, add = slot & 7;
		table[slot] += add;
		sum += add;
		count++;
	}
}

// The table from the beginning by the same random numbers: finds any lost, torn or repeated write.
static void check(void)
{
	uint64_t total = 0;
	for (int i = 0; i < SLOTS; i++) {
		total += table[i];
		CHECK((i & 7) == 0 ? table[i] == 0 : table[i] % (i & 7) == 0);
	}
	CHECK(total == sum);
	CHECK(state == 1 + count * 0x9e3779b97f4a7c15u);
}

int main(void)
{
	table = sbrk(SLOTS * sizeof(*table));
	CHECK(table != (void *)-1);
	answer("ready %d", getpid());
	for (;;) {
		struct pollfd input = {.fd = 0, .events = POLLIN};
		count_batch();
		if (poll(&input, 1, 0) <= 0)
			continue;
		char line[64];
		read_command(line, sizeof(line));
		if (!strcmp(line, "park")) {
			answer("parked");
			read_command(line, sizeof(line));
		}
		if (!strcmp(line, "quit"))
			break;
		check();
		answer("ok %lu", count);
	}
	answer("bye");
	return 7;
}
