// SPDX-License-Identifier: Apache-2.0
// Moves an untouched mapping next to a touched one, so that the kernel makes one of both.
//   move -> "moved"    write -> "ok VALUE": another value in every page of the touched one    check -> "ok VALUE"
//   park -> "parked"    quit -> "bye", status 7
#include "victim.h"
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 10, LENGTH = PAGES * PAGE };

static uint8_t *map(uint8_t *at)
{
	uint8_t *found = mmap(at, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(found == at);
	return found;
}

int main(void)
{
	uint8_t *space = mmap(NULL, 20 * LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(space != MAP_FAILED && munmap(space, 20 * LENGTH) == 0);
	uint8_t *touched = map(space + 2 * LENGTH), *untouched = map(space + 10 * LENGTH), value = 1;
	memset(touched, value, LENGTH);
	answer("ready %d", getpid());
	for (;;) {
		char line[64];
		read_command(line, sizeof(line));
		if (!strcmp(line, "quit"))
			break;
		if (!strcmp(line, "write"))
			memset(touched, ++value, LENGTH);
		for (int i = 0; i < LENGTH; i++)
			CHECK(touched[i] == value);
		if (!strcmp(line, "move"))
			CHECK(mremap(untouched, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, touched + LENGTH) == touched + LENGTH);
		answer(!strcmp(line, "move") ? "moved" : !strcmp(line, "park") ? "parked" : "ok %d", value);
	}
	answer("bye");
	return 7;
}
