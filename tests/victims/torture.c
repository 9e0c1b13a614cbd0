// SPDX-License-Identifier: Apache-2.0
// Does to its memory what it is told, many operations a line; one that the kernel refuses has no effect and is told.
//   torture FILE -> "ready PID HEAP" (FILE: 64 pages that private file mappings show; HEAP: address of its first page)
//   OPERATION NUMBER...; OPERATION NUMBER...; ... -> "ok RESULT RESULT ...": 0, or -errno (-14: a store that faulted)
//   exec -> "ready PID HEAP", by the same program, begun anew
//   child OPERATION NUMBER... is done by the process that `fork` made
// Pages are counted from ARENA, an address where nothing else is ever mapped; no two stores write the same value.
#include "victim.h"
#include <alloca.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

enum { PAGE = 4096, FILE_PAGES = 64, MEMFD_PAGES = 64 };
static const uintptr_t ARENA = 0x100000000000;
static const uint64_t WP_ASYNC = 1 << 15; // Linux 6.7; the headers may be older
static const int USER_MODE_ONLY = 1;

static sigjmp_buf escape;
static volatile bool trying;
static uint64_t fresh; // the next value to be stored
static uint8_t *heap;
static int file, memfd, userfault = -1, ring = -1;
static pid_t child;
static int to_child, from_child;
static char **arguments;

static uint8_t *page(long number)
{
	return (uint8_t *)ARENA + number * PAGE;
}

static long outcome(long result)
{
	return result == -1 ? -errno : 0;
}

// A fault, or the end of patience, in an operation ends the operation; anywhere else it is the end.
static void on_signal(int number, siginfo_t *info, void *context)
{
	const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	if (trying)
		siglongjmp(escape, number);
	dprintf(2, "signal %d, code %d, address %p, rip %llx, rsp %llx\n", number, info->si_code, info->si_addr,
		registers[REG_RIP], registers[REG_RSP]);
	signal(number, SIG_DFL);
}

// Whether to go on: false after a fault. The one that called it must end with ended().
#define TRY() (trying = true, sigsetjmp(escape, 0) == 0)

static long ended(long result)
{
	trying = false;
	return result;
}

static long op_map(const long *a)
{
	static const int flags[] = {MAP_PRIVATE | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED | MAP_ANONYMOUS, MAP_SHARED,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, MAP_PRIVATE | MAP_ANONYMOUS};
	CHECK(a[2] >= 0 && a[2] < 6);
	int fd = a[2] == 1 ? file : a[2] == 3 ? memfd : -1;
	return outcome((long)mmap(page(a[0]), a[1] * PAGE, PROT_READ | (a[2] == 5 ? 0 : PROT_WRITE),
				  flags[a[2]] | MAP_FIXED, fd, a[0] % 48 * (fd >= 0) * PAGE));
}

static long op_unmap(const long *a)
{
	return outcome(munmap(page(a[0]), a[1] * PAGE));
}

static long op_again(const long *a)
{
	munmap(page(a[0]), a[1] * PAGE);
	return op_map((const long[]){a[0], a[1], 0});
}

static long store(volatile uint64_t *at, long pages)
{
	if (!TRY())
		return ended(-EFAULT);
	for (long i = 0; i < pages; i++, fresh++)
		at[i * (PAGE / 8) + fresh % (PAGE / 8)] = fresh;
	return ended(0);
}

static long op_write(const long *a)
{
	return store((uint64_t *)page(a[0]), a[1]);
}

// A store that changes nothing.
static long op_same(const long *a)
{
	if (!TRY())
		return ended(-EFAULT);
	for (volatile uint64_t *at = (uint64_t *)page(a[0]); at < (uint64_t *)page(a[0] + a[1]); at += PAGE / 8)
		*at = *at;
	return ended(0);
}

static long op_read(const long *a)
{
	if (!TRY())
		return ended(-EFAULT);
	for (long i = 0; i < a[1]; i++)
		(void)*(volatile uint8_t *)page(a[0] + i);
	return ended(0);
}

static long op_fill(const long *a)
{
	if (!TRY())
		return ended(-EFAULT);
	memset(page(a[0]), a[2], a[1] * PAGE);
	return ended(0);
}

// The kernel as the writer: read(2) into the page.
static long op_receive(const long *a)
{
	return outcome(pread(file, page(a[0]), PAGE, a[1] % FILE_PAGES * PAGE));
}

static long op_protect(const long *a)
{
	static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
	CHECK(a[2] >= 0 && a[2] < 3);
	return outcome(mprotect(page(a[0]), a[1] * PAGE, prots[a[2]]));
}

static long op_resize(const long *a)
{
	return outcome((long)mremap(page(a[0]), a[1] * PAGE, a[2] * PAGE, 0));
}

static long op_move(const long *a)
{
	return outcome((long)mremap(page(a[0]), a[1] * PAGE, a[2] * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(a[3])));
}

static long op_strip(const long *a)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
	return outcome((long)mremap(page(a[0]), a[1] * PAGE, a[1] * PAGE, flags, page(a[2])));
}

static long op_brk(const long *a)
{
	return outcome(brk(heap + a[0] * PAGE));
}

static long op_heap(const long *a)
{
	return store((uint64_t *)heap + a[0] * (PAGE / 8), a[1]);
}

static __attribute__((noinline)) long op_stack(const long *a)
{
	return store((uint64_t *)(((uintptr_t)alloca((a[0] + 1) * PAGE) + PAGE - 1) & -PAGE), a[0]);
}

// With a time limit: on 6.18 MADV_GUARD_INSTALL never returns where pages of a file mapping are write-protected.
static long op_advise(const long *a)
{
	static const struct itimerval soon = {.it_value.tv_usec = 50000}, never;
	if (!TRY())
		return ended(-EINTR);
	if (a[2] == 102)
		setitimer(ITIMER_REAL, &soon, NULL);
	long result = outcome(madvise(page(a[0]), a[1] * PAGE, a[2]));
	setitimer(ITIMER_REAL, &never, NULL);
	return ended(result);
}

static long op_object(const long *a)
{
	fresh++;
	return outcome(pwrite(memfd, &fresh, 8, a[0] % MEMFD_PAGES * PAGE + fresh * 8 % PAGE));
}

static long op_punch(const long *a)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	return outcome(fallocate(memfd, mode, a[0] % MEMFD_PAGES * PAGE, a[1] * PAGE));
}

// The file below the private mappings changes: a page that nobody has written is the file's, and nobody's dirt.
static long op_file(const long *a)
{
	fresh++;
	return outcome(pwrite(file, &fresh, 8, a[0] % FILE_PAGES * PAGE + fresh * 8 % PAGE));
}

static long op_own(const long *a)
{
	struct uffdio_api api = {.api = UFFD_API, .features = WP_ASYNC};
	struct uffdio_register range = {{(uintptr_t)page(a[0]), a[1] * PAGE}, UFFDIO_REGISTER_MODE_WP, 0};
	if (userfault < 0) {
		userfault = syscall(SYS_userfaultfd, O_CLOEXEC | USER_MODE_ONLY);
		if (userfault < 0 || ioctl(userfault, UFFDIO_API, &api))
			return -errno;
	}
	return outcome(ioctl(userfault, UFFDIO_REGISTER, &range));
}

static long op_disown(const long *a)
{
	(void)a;
	long result = outcome(close(userfault));
	userfault = -1;
	return result;
}

// io_uring by its bare system calls: one ring, one registered buffer, one request at a time.
static struct io_uring_params ring_of;
static uint8_t *rings;
static struct io_uring_sqe *requests;
static struct iovec pinned;

static long op_unpin(const long *a)
{
	(void)a;
	if (ring < 0)
		return -EBADF;
	munmap(rings, PAGE);
	munmap(requests, PAGE);
	long result = outcome(close(ring));
	ring = -1;
	return result;
}

// Pins the pages for the kernel to write to: no page table will tell of it.
static long op_pin(const long *a)
{
	op_unpin(a);
	memset(&ring_of, 0, sizeof(ring_of));
	ring = syscall(SYS_io_uring_setup, 2, &ring_of);
	if (ring < 0)
		return -errno;
	fcntl(ring, F_SETFD, FD_CLOEXEC);
	rings = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	requests = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	CHECK(ring_of.features & IORING_FEAT_SINGLE_MMAP && rings != MAP_FAILED && requests != MAP_FAILED);
	pinned = (struct iovec){page(a[0]), a[1] * PAGE};
	return outcome(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &pinned, 1));
}

// The kernel stores page a[0] of the file in the first pinned page, wherever that page is mapped by now, if at all.
static long op_transfer(const long *a)
{
	if (ring < 0)
		return -EBADF;
	uint32_t *tail = (uint32_t *)(rings + ring_of.sq_off.tail), *head = (uint32_t *)(rings + ring_of.cq_off.head);
	uint32_t mask = *(uint32_t *)(rings + ring_of.cq_off.ring_mask), slot = *tail & (ring_of.sq_entries - 1);
	struct io_uring_cqe *done = (struct io_uring_cqe *)(rings + ring_of.cq_off.cqes);
	requests[slot] = (struct io_uring_sqe){.opcode = IORING_OP_READ_FIXED, .fd = file, .len = PAGE,
					       .off = a[0] % FILE_PAGES * PAGE, .addr = (uintptr_t)pinned.iov_base};
	((uint32_t *)(rings + ring_of.sq_off.array))[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -errno;
	int result = done[*head & mask].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result < 0 ? result : 0;
}

static long op_reap(const long *a)
{
	(void)a;
	if (!child)
		return -ECHILD;
	close(to_child);
	close(from_child);
	kill(child, SIGKILL);
	CHECK(waitpid(child, NULL, 0) == child);
	child = 0;
	return 0;
}

static void serve(int from, int to);

static long op_fork(const long *a)
{
	int down[2], up[2];
	op_reap(a);
	CHECK(pipe2(down, O_CLOEXEC) == 0 && pipe2(up, O_CLOEXEC) == 0);
	pid_t made = fork();
	CHECK(made >= 0);
	if (made == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ring = -1; // the parent's
		fresh += 1u << 30;
		serve(down[0], up[1]);
	}
	close(down[0]);
	close(up[1]);
	child = made;
	to_child = down[1];
	from_child = up[0];
	return 0;
}

static const struct operation {
	const char *name;
	long (*perform)(const long *arguments);
} operations[] = {
	{"map", op_map},	 {"unmap", op_unmap},	{"again", op_again},   {"write", op_write},   {"same", op_same},
	{"read", op_read},	 {"fill", op_fill},	{"receive", op_receive}, {"protect", op_protect}, {"resize", op_resize},
	{"move", op_move},	 {"strip", op_strip},	{"brk", op_brk},       {"heap", op_heap},     {"stack", op_stack},
	{"advise", op_advise},	 {"object", op_object}, {"punch", op_punch},   {"file", op_file},     {"own", op_own},
	{"disown", op_disown},	 {"pin", op_pin},	{"unpin", op_unpin},   {"transfer", op_transfer}, {"fork", op_fork},
	{"reap", op_reap},
};

static long perform(const char *text)
{
	char name[12];
	long a[4] = {};
	if (sscanf(text, "%11s %ld %ld %ld %ld", name, a, a + 1, a + 2, a + 3) < 1)
		return -EINVAL;
	for (const struct operation *o = operations; o < operations + sizeof(operations) / sizeof(*operations); o++)
		if (!strcmp(o->name, name))
			return o->perform(a);
	FAIL("unknown operation %s", name);
}

static void serve(int from, int to)
{
	char text[64];
	while (read(from, text, sizeof(text)) == sizeof(text)) {
		long result = perform(text);
		CHECK(write(to, &result, sizeof(result)) == sizeof(result));
	}
	_exit(0);
}

static long in_child(const char *rest)
{
	char text[64] = {};
	long result;
	if (!child)
		return -ECHILD;
	strncpy(text, rest, sizeof(text) - 1);
	if (write(to_child, text, sizeof(text)) != sizeof(text) || read(from_child, &result, sizeof(result)) != sizeof(result))
		return -ECHILD;
	return result;
}

static void set_up(const char *path)
{
	static uint8_t other_stack[1 << 16];
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER | SA_SIGINFO};
	uint64_t content[PAGE / 8];
	CHECK(sigaltstack(&(stack_t){.ss_sp = other_stack, .ss_size = sizeof(other_stack)}, NULL) == 0);
	CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0 &&
	      sigaction(SIGALRM, &action, NULL) == 0);
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	memfd = memfd_create("torture", MFD_CLOEXEC);
	CHECK(file >= 0 && memfd >= 0 && ftruncate(memfd, MEMFD_PAGES * PAGE) == 0);
	for (uint64_t i = 0; i < FILE_PAGES; i++) {
		for (uint64_t j = 0; j < PAGE / 8; j++)
			content[j] = (i + 1) << 32 | j;
		CHECK(pwrite(file, content, PAGE, i * PAGE) == PAGE);
	}
	heap = (uint8_t *)(((uintptr_t)sbrk(0) + PAGE - 1) & -PAGE);
	CHECK(brk(heap) == 0);
	fresh = (uint64_t)time(NULL) << 32; // other values than before an exec
}

int main(int argc, char **argv)
{
	static char line[1 << 14], results[1 << 10];
	CHECK(argc == 2);
	arguments = argv;
	set_up(argv[1]);
	answer("ready %d %lu", getpid(), (unsigned long)heap);
	for (;;) {
		read_command(line, sizeof(line));
		if (!strcmp(line, "exec")) {
			op_reap(NULL);
			execv("/proc/self/exe", arguments);
			FAIL("exec: errno %d", errno);
		}
		int length = 0;
		for (char *rest, *text = strtok_r(line, ";", &rest); text; text = strtok_r(NULL, ";", &rest)) {
			text += *text == ' ';
			bool other = !strncmp(text, "child ", 6);
			length += snprintf(results + length, sizeof(results) - length, " %ld", other ? in_child(text + 6) : perform(text));
			CHECK(length < (int)sizeof(results) - 8);
		}
		answer("ok%s", length ? results : "");
		results[0] = 0;
	}
}
