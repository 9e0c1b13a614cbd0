// SPDX-License-Identifier: Apache-2.0
// A process whose seccomp filter denies userfaultfd, mmap, mprotect and munmap with EPERM (argument "errno") or with
// SIGSYS ("kill"): what is injected into it must get around the filter, and the filter must be in force again afterwards.
//   check -> "ok COUNT": the filter still denies    quit -> "bye", status 7
#include "victim.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static uint64_t count;

static void install(uint32_t verdict)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), // seccomp_data.nr
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, verdict),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(*filter), .filter = filter};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

static void check(void)
{
	count++;
	CHECK(syscall(SYS_userfaultfd, 0) == -1 && errno == EPERM);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM);
}

int main(int argc, char **argv)
{
	int denies_with_errno = argc == 2 && !strcmp(argv[1], "errno");
	install(denies_with_errno ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_KILL_PROCESS);
	answer("ready %d", getpid());
	for (;;) {
		char line[64];
		read_command(line, sizeof(line));
		if (!strcmp(line, "quit"))
			break;
		if (denies_with_errno)
			check();
		answer("ok %lu", count);
	}
	answer("bye");
	return 7;
}
