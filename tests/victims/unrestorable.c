// SPDX-License-Identifier: Apache-2.0
// Holds what no restore can bring back (yet): a connected socket, a deleted file, an inotify instance, a child process.
//   check -> "ok"    quit -> "bye", status 7
#include "victim.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>

int main(void)
{
	int pair[2];
	char name[] = "/tmp/icecore-deleted-XXXXXX", byte = 'x';
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	int deleted = mkstemp(name);
	CHECK(deleted >= 0 && unlink(name) == 0 && inotify_init1(IN_CLOEXEC) >= 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	answer("ready %d", getpid());
	for (;;) {
		char line[64];
		read_command(line, sizeof(line));
		CHECK(write(pair[0], &byte, 1) == 1 && read(pair[1], &byte, 1) == 1);
		CHECK(kill(child, 0) == 0);
		if (!strcmp(line, "quit"))
			break;
		answer("ok");
	}
	answer("bye");
	return 7;
}
