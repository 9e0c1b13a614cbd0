// SPDX-License-Identifier: Apache-2.0
// Holds some memory until it is told to go: the process, or the program in it, is another one from then on.
//   leaver MIB    check -> "ok"   exec -> executes itself with half the memory, "ready PID"   exit, quit -> status 7
#include "victim.h"
#include <sys/mman.h>

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	size_t length = strtoul(argv[1], NULL, 10) << 20;
	uint64_t *words = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), state = length;
	CHECK(words != MAP_FAILED);
	for (size_t i = 0; i < length / 8; i += 8)
		words[i] = next_random(&state);
	answer("ready %d", getpid());
	for (;;) {
		char line[64], half[32];
		read_command(line, sizeof(line));
		if (!strcmp(line, "exec")) {
			snprintf(half, sizeof(half), "%zu", length >> 21);
			execl("/proc/self/exe", argv[0], half, NULL);
		}
		if (!strcmp(line, "exit") || !strcmp(line, "quit"))
			return 7;
		state = length;
		for (size_t i = 0; i < length / 8; i += 8)
			CHECK(words[i] == next_random(&state));
		answer(strcmp(line, "park") ? "ok" : "parked");
	}
}
