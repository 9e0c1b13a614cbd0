// SPDX-License-Identifier: Apache-2.0
// Eight threads; each holds its own vector registers, x87 and SSE control words, TLS, signal mask, alternate stack, name,
// robust list and rseq area, and compares all of it without end.
//   check -> "ok ROUNDS"   park -> "parked" (all threads wait, nothing is written, until the next command)
//   quit -> joins the threads, "bye", status 7
#include "victim.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <linux/futex.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>

enum { THREADS = 8, SPIN = 20000 };

struct vectors { // What one thread keeps in its registers.
	uint8_t zmm[32][64];
	uint64_t mask[8];
	double x87[4];
	uint32_t mxcsr;
	uint16_t control;
} __attribute__((aligned(64)));

struct worker {
	pthread_t thread;
	int number;
	pid_t tid;
	uint64_t robust_head, fs;
	stack_t altstack;
	sigset_t mask;
	char name[16];
	atomic_ulong rounds, acknowledged;
	struct vectors expected, found;
} __attribute__((aligned(64)));

static struct worker workers[THREADS];
static uint8_t altstacks[THREADS][16384];
static atomic_uint parked_word; // 1: wait; the futex that parked threads wait on
static atomic_uint quit, epoch, parked_count;
static bool avx512;
static __thread uint64_t tls_words[600];

// Load every register, spend SPIN iterations or one blocking system call with them, store them again.
// One asm block, so that the compiler has no register in between.
#define EACH_LOW(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define EACH_HIGH(op)                                                                                                  \
	op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23) op(24) op(25) op(26) op(27) op(28) op(29) op(30) op(31)
#define LOAD_Y(n) "vmovdqu " #n "*64(%[from]), %%ymm" #n "\n"
#define STORE_Y(n) "vmovdqu %%ymm" #n ", " #n "*64(%[to])\n"
#define LOAD_Z(n) "vmovdqu64 " #n "*64(%[from]), %%zmm" #n "\n"
#define STORE_Z(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%[to])\n"
#define EACH_MASK(op) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define LOAD_K(n) "kmovq 2048+" #n "*8(%[from]), %%k" #n "\n"
#define STORE_K(n) "kmovq %%k" #n ", 2048+" #n "*8(%[to])\n"
#define X87_IN "fldcw 2148(%[from])\n ldmxcsr 2144(%[from])\n fldl 2112(%[from])\n fldl 2120(%[from])\n fldl 2128(%[from])\n fldl 2136(%[from])\n"
#define X87_OUT "fstpl 2136(%[to])\n fstpl 2128(%[to])\n fstpl 2120(%[to])\n fstpl 2112(%[to])\n stmxcsr 2144(%[to])\n fnstcw 2148(%[to])\n"
#define WAIT "test %[spin], %[spin]\n jz 2f\n 1: dec %[spin]\n jnz 1b\n jmp 3f\n 2: syscall\n 3:\n"
#define HOLD(load, store)                                                                                              \
	__asm__ volatile(load X87_IN WAIT X87_OUT store                                                                \
			 : [spin] "+r"(spin), "+a"(call)                                                               \
			 : [from] "r"(&w->expected), [to] "r"(&w->found), "D"(arg1), "S"(arg2), "d"(arg3), "r"(arg4)   \
			 : "memory", "rcx", "r11", VECTOR_CLOBBERS)
#define VECTOR_CLOBBERS                                                                                                \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",     \
		"xmm13", "xmm14", "xmm15"

_Static_assert(offsetof(struct vectors, mask) == 2048 && offsetof(struct vectors, x87) == 2112, "offsets in the asm");
_Static_assert(offsetof(struct vectors, mxcsr) == 2144 && offsetof(struct vectors, control) == 2148, "offsets too");

static void hold_registers(struct worker *w, uint64_t spin, long call, long arg1, long arg2, long arg3,
			   const struct timespec *timeout)
{
	register const struct timespec *arg4 __asm__("r10") = timeout;
	if (avx512)
		HOLD(EACH_LOW(LOAD_Z) EACH_HIGH(LOAD_Z) EACH_MASK(LOAD_K), EACH_LOW(STORE_Z) EACH_HIGH(STORE_Z) EACH_MASK(STORE_K));
	else
		HOLD(EACH_LOW(LOAD_Y), EACH_LOW(STORE_Y));
	static const struct {
		uint16_t control;
		uint32_t mxcsr;
	} plain = {0x37f, 0x1f80}; // What the C library expects.
	__asm__ volatile("vzeroupper\n fninit\n fldcw %0\n ldmxcsr %1" : : "m"(plain.control), "m"(plain.mxcsr));
}

static void fill_expected(struct worker *w)
{
	uint64_t state = 1000 + w->number;
	uint64_t *words = (uint64_t *)w->expected.zmm;
	for (size_t i = 0; i < sizeof(w->expected.zmm) / 8; i++)
		words[i] = next_random(&state);
	for (int i = 1; i < 8; i++)
		w->expected.mask[i] = next_random(&state);
	for (int i = 0; i < 4; i++)
		w->expected.x87[i] = w->number * 1.5 + i / 3.0;
	w->expected.control = w->number & 1 ? 0x37f : 0xf7f;	  // rounding: to nearest, to zero
	w->expected.mxcsr = w->number & 1 ? 0x1f80 : 0x1f80 | 0x2000; // rounding: to nearest, down
}

static void check_registers(struct worker *w)
{
	int registers = avx512 ? 32 : 16, width = avx512 ? 64 : 32;
	for (int i = 0; i < registers; i++)
		CHECK(!memcmp(w->expected.zmm[i], w->found.zmm[i], width));
	for (int i = 1; avx512 && i < 8; i++)
		CHECK(w->expected.mask[i] == w->found.mask[i]);
	CHECK(!memcmp(w->expected.x87, w->found.x87, sizeof(w->found.x87)));
	CHECK(w->expected.control == w->found.control);
	CHECK(w->expected.mxcsr == w->found.mxcsr);
	memset(&w->found, 0, sizeof(w->found));
}

static uint64_t robust_list_head(void)
{
	uint64_t head = 0, length = 0;
	CHECK(syscall(SYS_get_robust_list, 0, &head, &length) == 0 && length == 24);
	return head;
}

// Registering the same area again answers EBUSY; a kernel that has forgotten it would accept it.
static void check_rseq(void)
{
	struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	if (__rseq_size == 0)
		return;
	CHECK((int)area->cpu_id >= 0 && (int)area->cpu_id < 4096);
	CHECK(syscall(SYS_rseq, area, 32, 0, RSEQ_SIG) == -1 && errno == EBUSY);
}

static void check_kernel_state(struct worker *w)
{
	stack_t altstack;
	sigset_t mask;
	uint64_t fs;
	char name[16];
	CHECK(syscall(SYS_gettid) == w->tid);
	CHECK(sigaltstack(NULL, &altstack) == 0 && altstack.ss_sp == w->altstack.ss_sp);
	CHECK(altstack.ss_size == w->altstack.ss_size && altstack.ss_flags == w->altstack.ss_flags);
	CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && !memcmp(&mask, &w->mask, 8));
	CHECK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs) == 0 && fs == w->fs);
	CHECK(prctl(PR_GET_NAME, name) == 0 && !strcmp(name, w->name));
	CHECK(robust_list_head() == w->robust_head);
	check_rseq();
}

static void set_kernel_state(struct worker *w)
{
	w->altstack = (stack_t){.ss_sp = altstacks[w->number], .ss_size = sizeof(altstacks[0]) - 1024 * w->number};
	CHECK(sigaltstack(&w->altstack, NULL) == 0);
	sigemptyset(&w->mask);
	for (int i = 0; i <= w->number; i++)
		sigaddset(&w->mask, SIGRTMIN + i);
	CHECK(pthread_sigmask(SIG_SETMASK, &w->mask, NULL) == 0);
	snprintf(w->name, sizeof(w->name), "worker (%d) %%", w->number); // parentheses and blanks: hard on a parser
	CHECK(prctl(PR_SET_NAME, w->name) == 0);
	w->tid = syscall(SYS_gettid);
	w->robust_head = robust_list_head();
	CHECK(syscall(SYS_arch_prctl, ARCH_GET_FS, &w->fs) == 0);
	for (size_t i = 0; i < 600; i++)
		tls_words[i] = w->number * 1000000 + i;
}

static void check_tls(struct worker *w, uint64_t round)
{
	for (size_t i = 0; i < 600; i++)
		CHECK(tls_words[i] == w->number * 1000000 + i + round);
	for (size_t i = 0; i < 600; i++)
		tls_words[i]++;
}

static void park(void)
{
	if (atomic_load(&parked_word) == 0)
		return;
	atomic_fetch_add(&parked_count, 1);
	while (atomic_load(&parked_word) == 1)
		syscall(SYS_futex, &parked_word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
	atomic_fetch_sub(&parked_count, 1);
}

static void *work(void *argument)
{
	struct worker *w = argument;
	static uint32_t never;
	const struct timespec timeout = {.tv_nsec = 2000000};
	set_kernel_state(w);
	fill_expected(w);
	for (uint64_t round = 0; !atomic_load(&quit); round++) {
		hold_registers(w, SPIN, 0, 0, 0, 0, NULL);
		check_registers(w);
		hold_registers(w, 0, SYS_futex, (long)&never, FUTEX_WAIT_PRIVATE, 0, &timeout);
		check_registers(w);
		check_kernel_state(w);
		check_tls(w, round);
		atomic_store(&w->acknowledged, atomic_load(&epoch));
		atomic_fetch_add(&w->rounds, 1);
		park();
	}
	return w;
}

// Every thread has gone once through all of its checks since the question was asked: twice, for the first round that is
// acknowledged may have begun before.
static void wait_for_rounds(void)
{
	for (int twice = 0; twice < 2; twice++) {
		unsigned wanted = atomic_fetch_add(&epoch, 1) + 1;
		for (int i = 0; i < THREADS; i++)
			while (atomic_load(&workers[i].acknowledged) != wanted)
				nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	}
}

static void set_parked(unsigned value)
{
	atomic_store(&parked_word, value);
	syscall(SYS_futex, &parked_word, FUTEX_WAKE_PRIVATE, THREADS, NULL, NULL, 0);
	while (atomic_load(&parked_count) != (value ? THREADS : 0))
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

static uint64_t all_rounds(void)
{
	uint64_t rounds = 0;
	for (int i = 0; i < THREADS; i++)
		rounds += atomic_load(&workers[i].rounds);
	return rounds;
}

static void finish(void)
{
	atomic_store(&quit, 1);
	for (int i = 0; i < THREADS; i++) { // joining waits for the kernel to clear the thread's tid word
		void *result;
		CHECK(pthread_join(workers[i].thread, &result) == 0 && result == &workers[i]);
	}
	answer("bye");
}

int main(void)
{
	unsigned a, b = 0, c, d;
	__get_cpuid_count(7, 0, &a, &b, &c, &d);
	avx512 = (b & bit_AVX512F) && (b & bit_AVX512BW) && __builtin_cpu_supports("avx512bw");
	for (int i = 0; i < THREADS; i++) {
		workers[i].number = i;
		CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
	}
	wait_for_rounds();
	answer("ready %d %s", getpid(), avx512 ? "avx512" : "avx");
	for (;;) {
		char line[64];
		read_command(line, sizeof(line));
		if (atomic_load(&parked_word))
			set_parked(0);
		if (!strcmp(line, "check")) {
			wait_for_rounds();
			answer("ok %lu", all_rounds());
		} else if (!strcmp(line, "park")) {
			set_parked(1);
			answer("parked");
		} else if (!strcmp(line, "quit")) {
			finish();
			return 7;
		}
	}
}
