// SPDX-License-Identifier: Apache-2.0
// Holds one of everything that a descriptor table and a signal state may contain, changes it step by step, checks it.
//   files DIR (an empty directory to work in)
//   step N -> "ok STEPS"   check -> "ok STEPS" (changes nothing)   park -> "parked"
//   drain -> "ok STEPS" after consuming all that waits: pipe, eventfds, epoll, pending signals, one expiry   quit -> status 7
#include "victim.h"
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>

enum { HIGH_FD = 200, RECORD = 37, PIPE_SIZE = 131072, QUEUED = 3 };

static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
static int data, same, again, log_fd, directory, device_fds[5], pipe_fds[2], counter_fd, semaphore_fd, epoll_fd;
static int long_timer, ticking_timer, signal_fd;
static int steps, appended;
static uint64_t pipe_written, pipe_read, counted;
static char cwd[4096];
static volatile sig_atomic_t alarms;

static void on_info(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info, (void)context;
	alarms++;
}

static void on_signal(int number)
{
	(void)number;
}

static uint8_t pipe_byte(uint64_t at)
{
	return at * 7 + at / 256;
}

static void push(uint64_t count)
{
	uint8_t bytes[5000];
	for (uint64_t i = 0; i < count; i++)
		bytes[i] = pipe_byte(pipe_written + i);
	CHECK(write(pipe_fds[1], bytes, count) == (ssize_t)count);
	pipe_written += count;
}

static void pull(uint64_t count)
{
	uint8_t bytes[5000];
	CHECK(read(pipe_fds[0], bytes, count) == (ssize_t)count);
	for (uint64_t i = 0; i < count; i++)
		CHECK(bytes[i] == pipe_byte(pipe_read + i));
	pipe_read += count;
}

static void open_files(const char *path)
{
	CHECK(chdir(path) == 0 && getcwd(cwd, sizeof(cwd)));
	umask(027);
	data = open("data.bin", O_RDWR | O_CREAT, 0600);
	CHECK(data >= 0 && ftruncate(data, 1 << 20) == 0);
	CHECK((same = dup(data)) >= 0 && (again = open("data.bin", O_RDONLY | O_CLOEXEC)) >= 0);
	CHECK(dup3(same, HIGH_FD, O_CLOEXEC) == HIGH_FD);
	CHECK((log_fd = open("log.txt", O_WRONLY | O_CREAT | O_APPEND, 0640)) >= 0);
	CHECK((directory = open(".", O_RDONLY | O_DIRECTORY)) >= 0);
	for (int i = 0; i < 5; i++)
		CHECK((device_fds[i] = open(devices[i], i == 0 ? O_RDWR : O_RDONLY)) >= 0);
}

static void open_queues(void)
{
	CHECK(pipe2(pipe_fds, O_NONBLOCK) == 0 && fcntl(pipe_fds[1], F_SETPIPE_SZ, PIPE_SIZE) == PIPE_SIZE);
	CHECK(fcntl(pipe_fds[0], F_SETFD, FD_CLOEXEC) == 0);
	push(100);
	push(3000);
	CHECK((counter_fd = eventfd(5, EFD_NONBLOCK)) >= 0 && (semaphore_fd = eventfd(3, EFD_SEMAPHORE | EFD_CLOEXEC)) >= 0);
	counted = 5;
	CHECK((epoll_fd = epoll_create1(0)) >= 0);
	struct epoll_event on_pipe = {.events = EPOLLIN, .data.u64 = 0xa1}, on_counter = {.events = EPOLLIN | EPOLLET, .data.u64 = 0xb2};
	struct epoll_event on_timer = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 0xdeadbeefcafe};
	CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &on_pipe) == 0);
	CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, counter_fd, &on_counter) == 0);
	CHECK((long_timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)) >= 0);
	CHECK((ticking_timer = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK)) >= 0);
	struct itimerspec an_hour = {.it_value = {3600, 0}, .it_interval = {7, 500}}, at_once = {.it_value = {0, 1}};
	CHECK(timerfd_settime(long_timer, 0, &an_hour, NULL) == 0 && timerfd_settime(ticking_timer, 0, &at_once, NULL) == 0);
	CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, long_timer, &on_timer) == 0);
}

static void set_actions(void)
{
	struct sigaction info = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	sigemptyset(&info.sa_mask);
	sigaddset(&info.sa_mask, SIGRTMIN + 9);
	CHECK(sigaction(SIGALRM, &info, NULL) == 0);
	struct sigaction plain = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_RESETHAND};
	CHECK(sigaction(SIGHUP, &plain, NULL) == 0);
	CHECK(signal(SIGTTOU, SIG_IGN) != SIG_ERR && signal(SIGCHLD, SIG_IGN) != SIG_ERR);
}

static void queue_signals(void)
{
	sigset_t blocked;
	sigemptyset(&blocked);
	for (int i = 0; i < 6; i++)
		sigaddset(&blocked, SIGRTMIN + i);
	sigaddset(&blocked, SIGUSR1);
	sigaddset(&blocked, SIGUSR2);
	CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
	sigset_t to_fd;
	sigemptyset(&to_fd);
	sigaddset(&to_fd, SIGRTMIN + 5);
	CHECK((signal_fd = signalfd(-1, &to_fd, SFD_NONBLOCK | SFD_CLOEXEC)) >= 0);
	for (int i = 0; i < QUEUED; i++)
		CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 1000 + i}) == 0);
	CHECK(sigqueue(getpid(), SIGRTMIN + 5, (union sigval){.sival_int = 555}) == 0);
	CHECK(kill(getpid(), SIGUSR1) == 0);
	CHECK(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR2) == 0);
}

static void set_timers(void)
{
	struct itimerval real = {.it_value = {5000, 0}, .it_interval = {17, 0}}, virtual = {.it_value = {900, 0}};
	CHECK(setitimer(ITIMER_REAL, &real, NULL) == 0 && setitimer(ITIMER_VIRTUAL, &virtual, NULL) == 0);
	struct rlimit limit;
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = 777;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void step(void)
{
	char record[RECORD + 1];
	steps++;
	snprintf(record, sizeof(record), "step %-*d", RECORD - 5, steps);
	CHECK(write(data, record, RECORD) == RECORD);
	CHECK(write(log_fd, record, RECORD) == RECORD);
	appended += RECORD;
	CHECK(read(again, record, 11) == 11);
	push(1000 + steps % 500);
	if (pipe_written - pipe_read > 20000)
		pull(3000);
	CHECK(eventfd_write(counter_fd, 2) == 0);
	counted += 2;
}

static bool fdinfo_has(int fd, const char *expected)
{
	char path[64], text[4096];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	int info = open(path, O_RDONLY);
	ssize_t length = read(info, text, sizeof(text) - 1);
	close(info);
	CHECK(length > 0);
	text[length] = 0;
	return strstr(text, expected) != NULL;
}

static void check_flags(int fd, int status, int descriptor)
{
	int found = fcntl(fd, F_GETFL) & ~(0100000 | O_NOFOLLOW); // O_LARGEFILE
	if (found != status || fcntl(fd, F_GETFD) != descriptor)
		FAIL("fd %d: flags %o %o, expected %o %o", fd, found, fcntl(fd, F_GETFD), status, descriptor);
}

static void check_files(void)
{
	char path[4096];
	off_t at = (off_t)steps * RECORD;
	CHECK(lseek(data, 0, SEEK_CUR) == at && lseek(same, 0, SEEK_CUR) == at && lseek(HIGH_FD, 0, SEEK_CUR) == at);
	CHECK(lseek(data, 1, SEEK_CUR) == at + 1 && lseek(HIGH_FD, -1, SEEK_CUR) == at); // one offset, not three
	CHECK(lseek(again, 0, SEEK_CUR) == (off_t)steps * 11);
	check_flags(data, O_RDWR, 0);
	check_flags(HIGH_FD, O_RDWR, FD_CLOEXEC);
	check_flags(again, O_RDONLY, FD_CLOEXEC);
	check_flags(log_fd, O_WRONLY | O_APPEND, 0);
	check_flags(directory, O_RDONLY | O_DIRECTORY, 0);
	CHECK(getcwd(path, sizeof(path)) && !strcmp(path, cwd));
	mode_t mask = umask(027);
	CHECK(mask == 027);
	struct stat device, opened;
	for (int i = 0; i < 5; i++)
		CHECK(stat(devices[i], &device) == 0 && fstat(device_fds[i], &opened) == 0 && opened.st_rdev == device.st_rdev);
}

static void check_queues(void)
{
	int unread;
	char text[64];
	CHECK(ioctl(pipe_fds[0], FIONREAD, &unread) == 0 && (uint64_t)unread == pipe_written - pipe_read);
	CHECK(fcntl(pipe_fds[0], F_GETPIPE_SZ) == PIPE_SIZE);
	check_flags(pipe_fds[0], O_RDONLY | O_NONBLOCK, FD_CLOEXEC);
	check_flags(pipe_fds[1], O_WRONLY | O_NONBLOCK, 0);
	snprintf(text, sizeof(text), "eventfd-count: %16lx\n", counted);
	CHECK(fdinfo_has(counter_fd, text) && fdinfo_has(semaphore_fd, "eventfd-count:                3\n"));
	check_flags(counter_fd, O_RDWR | O_NONBLOCK, 0);
	check_flags(semaphore_fd, O_RDWR, FD_CLOEXEC);
	struct itimerspec left;
	CHECK(timerfd_gettime(long_timer, &left) == 0 && left.it_value.tv_sec > 3000 && left.it_value.tv_sec < 3600);
	CHECK(left.it_interval.tv_sec == 7 && left.it_interval.tv_nsec == 500);
	CHECK(fdinfo_has(epoll_fd, "deadbeefcafe") && fdinfo_has(epoll_fd, "data:               a1"));
	CHECK(fdinfo_has(signal_fd, "sigmask:\t"));
}

static void check_signals(void)
{
	sigset_t pending;
	CHECK(sigpending(&pending) == 0);
	for (int number = 1; number <= SIGRTMAX; number++) {
		bool expected = number == SIGUSR1 || number == SIGUSR2 || number == SIGRTMIN + 1 || number == SIGRTMIN + 5;
		if (number != 32 && number != 33)
			CHECK(sigismember(&pending, number) == expected);
	}
	struct sigaction action;
	CHECK(sigaction(SIGALRM, NULL, &action) == 0 && action.sa_sigaction == on_info);
	CHECK((action.sa_flags & (SA_SIGINFO | SA_ONSTACK | SA_NODEFER)) == (SA_SIGINFO | SA_ONSTACK | SA_NODEFER));
	CHECK(sigismember(&action.sa_mask, SIGRTMIN + 9) == 1 && sigismember(&action.sa_mask, SIGRTMIN + 8) == 0);
	CHECK(sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler == on_signal && action.sa_flags & SA_RESETHAND);
	CHECK(sigaction(SIGTTOU, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
	CHECK(sigaction(SIGTERM, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
}

static void check_timers(void)
{
	struct itimerval real, virtual;
	struct rlimit limit;
	CHECK(getitimer(ITIMER_REAL, &real) == 0 && real.it_value.tv_sec > 4000 && real.it_interval.tv_sec == 17);
	CHECK(getitimer(ITIMER_VIRTUAL, &virtual) == 0 && virtual.it_value.tv_sec > 800 && virtual.it_interval.tv_sec == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 777);
}

static void check(void)
{
	check_files();
	check_queues();
	check_signals();
	check_timers();
}

// The raw call: the C library's says SI_USER where the kernel says SI_TKILL.
static int take_signal(const sigset_t *set, siginfo_t *info)
{
	const struct timespec at_once = {0};
	return syscall(SYS_rt_sigtimedwait, set, info, &at_once, 8);
}

static void drain_signals(void)
{
	sigset_t set;
	siginfo_t info;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	CHECK(take_signal(&set, &info) == SIGUSR2 && info.si_code == SI_TKILL); // the thread's own come first
	CHECK(take_signal(&set, &info) == SIGUSR1 && info.si_code == SI_USER && info.si_pid == getpid());
	sigaddset(&set, SIGRTMIN + 1);
	for (int i = 0; i < QUEUED; i++) {
		CHECK(take_signal(&set, &info) == SIGRTMIN + 1);
		CHECK(info.si_code == SI_QUEUE && info.si_value.sival_int == 1000 + i);
	}
	CHECK(take_signal(&set, &info) == -1 && errno == EAGAIN);
	struct signalfd_siginfo from_fd;
	CHECK(read(signal_fd, &from_fd, sizeof(from_fd)) == sizeof(from_fd));
	CHECK(from_fd.ssi_signo == (unsigned)SIGRTMIN + 5 && from_fd.ssi_int == 555);
	CHECK(raise(SIGALRM) == 0 && alarms == 1);
}

static void drain_queues(void)
{
	struct epoll_event events[8];
	int ready = epoll_wait(epoll_fd, events, 8, 0);
	bool pipe_ready = false, counter_ready = false;
	for (int i = 0; i < ready; i++) {
		pipe_ready |= events[i].data.u64 == 0xa1;
		counter_ready |= events[i].data.u64 == 0xb2;
	}
	CHECK(ready == 2 && pipe_ready && counter_ready);
	CHECK(epoll_wait(epoll_fd, events, 8, 0) == 1 && events[0].data.u64 == 0xa1); // edge triggered: not again
	while (pipe_read < pipe_written)
		pull(pipe_written - pipe_read < 5000 ? pipe_written - pipe_read : 5000);
	eventfd_t value;
	CHECK(eventfd_read(counter_fd, &value) == 0 && value == counted);
	CHECK(eventfd_read(semaphore_fd, &value) == 0 && value == 1);
	uint64_t ticks;
	CHECK(read(ticking_timer, &ticks, 8) == 8 && ticks == 1);
	struct itimerspec at_once = {.it_value = {0, 1}};
	CHECK(timerfd_settime(long_timer, 0, &at_once, NULL) == 0);
	CHECK(epoll_wait(epoll_fd, events, 8, 10000) == 1 && events[0].data.u64 == 0xdeadbeefcafe);
}

static void drain_files(void)
{
	char bytes[RECORD], expected[RECORD + 1];
	for (int i = 0; i < steps; i++) {
		snprintf(expected, sizeof(expected), "step %-*d", RECORD - 5, i + 1);
		CHECK(pread(data, bytes, RECORD, (off_t)i * RECORD) == RECORD && !memcmp(bytes, expected, RECORD));
	}
	off_t size = lseek(log_fd, 0, SEEK_END);
	CHECK(size >= appended && lseek(log_fd, 0, SEEK_SET) == 0);
	CHECK(write(log_fd, "end", 3) == 3 && lseek(log_fd, 0, SEEK_END) == size + 3); // appended in spite of the offset
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	open_files(argv[1]);
	open_queues();
	set_actions();
	queue_signals();
	set_timers();
	answer("ready %d", getpid());
	for (;;) {
		char line[64];
		read_command(line, sizeof(line));
		for (int i = strncmp(line, "step ", 5) ? 0 : atoi(line + 5); i > 0; i--)
			step();
		if (!strcmp(line, "quit"))
			break;
		if (strcmp(line, "park"))
			check();
		if (!strcmp(line, "drain")) {
			drain_signals();
			drain_queues();
			drain_files();
		}
		answer(strcmp(line, "park") ? "ok %d" : "parked %d", steps);
	}
	answer("bye");
	return 7;
}
