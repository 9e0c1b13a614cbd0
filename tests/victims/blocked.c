// SPDX-License-Identifier: Apache-2.0
// A thread that waits in one system call, named by the argument, and tells how it ended.
//   blocked CALL thread|leader -> "ready PID TID"; that thread is asleep in the call by then or will be in an instant:
//   one of its own, or the thread group's leader (then another thread does the talking)
//   release -> does what the call waits for (nothing for a sleep: that ends by itself or is interrupted), "released"
//   result -> "CALL RETURN ERRNO DETAIL" once the call has returned     park, check -> an answer    quit -> "bye", status 7
// The call is made by a raw system call, once: no C library loop hides an EINTR.
#include "victim.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>

static const struct timespec LONG = {.tv_sec = 3600};
static struct timespec remaining;
static atomic_uint futex_word;
static int pipe_fds[2], event_fd;
static atomic_int tid, handled;
static pthread_t thread;
static sem_t finished;
static const char *call_name;
static long returned;
static int error;
static char detail[128];

static void handler(int signal)
{
	handled = signal;
}

static uint64_t signal_bit(int signal)
{
	return 1ul << (signal - 1);
}

static uint64_t current_mask(void)
{
	uint64_t mask = 0;
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	return mask;
}

static long call_nanosleep(void)
{
	remaining = LONG;
	return syscall(SYS_nanosleep, &LONG, &remaining);
}

static long call_clock_nanosleep(void)
{
	remaining = LONG;
	return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &LONG, &remaining);
}

// Until an absolute time half a second away: it is over when the restored thread goes on, or soon after.
static long call_clock_nanosleep_absolute(void)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static long call_futex(void)
{
	return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static long call_futex_timeout(void)
{
	return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, &LONG, NULL, 0);
}

static long call_poll(void)
{
	struct pollfd entry = {.fd = pipe_fds[0], .events = POLLIN};
	long result = syscall(SYS_poll, &entry, 1, -1);
	snprintf(detail, sizeof(detail), "revents=%d", entry.revents);
	return result;
}

static long call_poll_timeout(void)
{
	struct pollfd entry = {.fd = pipe_fds[0], .events = POLLIN};
	return syscall(SYS_poll, &entry, 1, 3600000);
}

static long call_ppoll(void)
{
	struct pollfd entry = {.fd = pipe_fds[0], .events = POLLIN};
	struct timespec timeout = LONG;
	uint64_t mask = signal_bit(SIGUSR1);
	long result = syscall(SYS_ppoll, &entry, 1, &timeout, &mask, 8);
	snprintf(detail, sizeof(detail), "revents=%d left=%d", entry.revents, timeout.tv_sec > 3000);
	return result;
}

static long call_select(void)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(pipe_fds[0], &set);
	struct timeval timeout = {.tv_sec = 3600};
	long result = syscall(SYS_select, pipe_fds[0] + 1, &set, NULL, NULL, &timeout);
	snprintf(detail, sizeof(detail), "set=%d left=%d", !!FD_ISSET(pipe_fds[0], &set), timeout.tv_sec > 3000);
	return result;
}

static long call_pselect(void)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(pipe_fds[0], &set);
	uint64_t mask = signal_bit(SIGUSR1);
	struct {
		uint64_t *mask;
		size_t size;
	} argument = {&mask, 8};
	long result = syscall(SYS_pselect6, pipe_fds[0] + 1, &set, NULL, NULL, NULL, &argument);
	snprintf(detail, sizeof(detail), "set=%d", !!FD_ISSET(pipe_fds[0], &set));
	return result;
}

static int epoll_fd(void)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1234567890abcdef};
	CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_fds[0], &event) == 0);
	return epoll;
}

static long call_epoll_wait(void)
{
	struct epoll_event event = {0};
	long result = syscall(SYS_epoll_wait, epoll_fd(), &event, 1, -1);
	snprintf(detail, sizeof(detail), "data=%lx", event.data.u64);
	return result;
}

static long call_read(void)
{
	char bytes[16] = "";
	long result = syscall(SYS_read, pipe_fds[0], bytes, sizeof(bytes));
	snprintf(detail, sizeof(detail), "bytes=%s", bytes);
	return result;
}

static long call_read_eventfd(void)
{
	uint64_t value = 0;
	long result = syscall(SYS_read, event_fd, &value, 8);
	snprintf(detail, sizeof(detail), "value=%lu", value);
	return result;
}

static long call_sigsuspend(void)
{
	uint64_t before = current_mask(), mask = 0;
	long result = syscall(SYS_rt_sigsuspend, &mask, 8);
	snprintf(detail, sizeof(detail), "handled=%d mask=%s", handled, current_mask() == before ? "same" : "changed");
	return result;
}

static long call_pause(void)
{
	long result = syscall(SYS_pause);
	snprintf(detail, sizeof(detail), "handled=%d", handled);
	return result;
}

static long call_sigtimedwait(void)
{
	uint64_t set = signal_bit(SIGUSR2);
	siginfo_t info = {0};
	long result = syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 8);
	snprintf(detail, sizeof(detail), "signo=%d", info.si_signo);
	return result;
}

static const struct {
	const char *name;
	long (*make)(void);
} calls[] = {
	{"nanosleep", call_nanosleep},
	{"clock_nanosleep", call_clock_nanosleep},
	{"clock_nanosleep_absolute", call_clock_nanosleep_absolute},
	{"futex", call_futex},
	{"futex_timeout", call_futex_timeout},
	{"poll", call_poll},
	{"poll_timeout", call_poll_timeout},
	{"ppoll", call_ppoll},
	{"select", call_select},
	{"pselect", call_pselect},
	{"epoll_wait", call_epoll_wait},
	{"read", call_read},
	{"read_eventfd", call_read_eventfd},
	{"sigsuspend", call_sigsuspend},
	{"pause", call_pause},
	{"sigtimedwait", call_sigtimedwait},
};

static void *block(void *name)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (!strcmp(calls[i].name, name)) {
			tid = syscall(SYS_gettid);
			returned = calls[i].make();
			error = returned < 0 ? errno : 0;
			sem_post(&finished);
		}
	return NULL;
}

// Everything that any of the calls may wait for, except the passing of an hour.
static void release(void)
{
	futex_word = 1;
	syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0);
	CHECK(write(pipe_fds[1], "wake up", 7) == 7);
	CHECK(eventfd_write(event_fd, 42) == 0);
	if (strcmp(call_name, "sigsuspend") == 0 || strcmp(call_name, "pause") == 0)
		pthread_kill(thread, SIGUSR1);
	if (strcmp(call_name, "sigtimedwait") == 0)
		pthread_kill(thread, SIGUSR2);
	answer("released");
}

static void result(void)
{
	while (sem_wait(&finished) != 0)
		CHECK(errno == EINTR);
	if (remaining.tv_sec || remaining.tv_nsec)
		snprintf(detail, sizeof(detail), "left=%d", remaining.tv_sec > 3000 && remaining.tv_sec < 3600);
	answer("%s %ld %s %s", call_name, returned, error ? strerrorname_np(error) : "0", detail);
}

static void *talk(void *unused)
{
	while (!tid)
		sched_yield();
	answer("ready %d %d", getpid(), tid);
	for (;;) {
		char line[64];
		read_command(line, sizeof(line));
		if (!strcmp(line, "release"))
			release();
		else if (!strcmp(line, "result"))
			result();
		else if (!strcmp(line, "quit"))
			break;
		else
			answer("%s", !strcmp(line, "park") ? "parked" : "ok");
	}
	answer("bye");
	exit(7);
	return unused;
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	call_name = argv[1];
	struct sigaction action = {.sa_handler = handler};
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	CHECK(pipe2(pipe_fds, O_CLOEXEC) == 0 && (event_fd = eventfd(0, EFD_CLOEXEC)) >= 0 && sem_init(&finished, 0, 0) == 0);
	pthread_t other;
	int in_leader = !strcmp(argv[2], "leader");
	CHECK(pthread_create(&other, NULL, in_leader ? talk : block, argv[1]) == 0);
	thread = in_leader ? pthread_self() : other;
	in_leader ? block(argv[1]) : talk(NULL);
	for (;;) // the leader has reported; only the other thread ends the process
		pause();
}
