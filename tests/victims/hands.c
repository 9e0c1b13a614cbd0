// SPDX-License-Identifier: Apache-2.0
// Does with its memory what it is told, one system call or one store at a time.
//   call NUMBER A B C D E F -> "ok RESULT" (negative: -errno)    put ADDRESS BYTE -> "ok"    get ADDRESS -> "ok BYTE"
//   fill ADDRESS PAGES SEED -> "ok": every page gets words of its own
//   fork ADDRESS BYTE -> "ok PID": a child that has written there by now, and waits to be killed
//   exec PROGRAM -> the program's own words
#include "victim.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { WORDS = 512 };

static void fill(uint64_t *at, long pages, uint64_t seed)
{
	for (long i = 0; i < pages * WORDS; i++)
		at[i] = next_random(&seed);
}

static void fork_child(volatile uint8_t *at, int byte)
{
	int ready[2];
	char done;
	CHECK(pipe(ready) == 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		*at = byte;
		CHECK(write(ready[1], "x", 1) == 1);
		for (;;)
			pause();
	}
	CHECK(read(ready[0], &done, 1) == 1);
	close(ready[0]);
	close(ready[1]);
	answer("ok %d", child);
}

int main(int argc, char **argv)
{
	char line[256], word[16], rest[200];
	long a[7];
	CHECK(argc > 0);
	answer("ready %d", getpid());
	for (;;) {
		read_command(line, sizeof(line));
		for (int i = 0; i < 7; i++)
			a[i] = 0;
		int words = sscanf(line, "%15s %li %li %li %li %li %li %li", word, a, a + 1, a + 2, a + 3, a + 4, a + 5, a + 6);
		CHECK(words >= 1);
		if (!strcmp(word, "call")) {
			long result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
			answer("ok %ld", result == -1 ? -errno : result);
		} else if (!strcmp(word, "put")) {
			*(volatile uint8_t *)a[0] = a[1];
			answer("ok");
		} else if (!strcmp(word, "get")) {
			answer("ok %d", *(volatile uint8_t *)a[0]);
		} else if (!strcmp(word, "fill")) {
			fill((uint64_t *)a[0], a[1], a[2]);
			answer("ok");
		} else if (!strcmp(word, "fork")) {
			fork_child((uint8_t *)a[0], a[1]);
		} else if (!strcmp(word, "exec")) {
			CHECK(sscanf(line, "exec %199s", rest) == 1);
			execv(rest, argv);
			FAIL("exec: errno %d", errno);
		} else {
			FAIL("unknown command %s", line);
		}
	}
}
