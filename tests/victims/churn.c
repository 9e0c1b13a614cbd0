// SPDX-License-Identifier: Apache-2.0
// Maps, unmaps, moves, protects, discards, guards, reverts and grows memory at random, and knows what every page holds.
//   churn SEED FILE (FILE: 256 pages or more, written by `churn SEED FILE` itself if it does not exist)
//   step N -> "ok N" after N random operations    check -> "ok PAGES"    park -> "parked"    quit -> "bye", status 7
// A page is described by one word: 0 reads as zero, otherwise word i of the page is word * (2 * i + 1).
#include "victim.h"
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 // Linux 6.13
#define MADV_GUARD_REMOVE 103
#endif

enum { PAGE = 4096, WORDS = PAGE / 8, REGIONS = 48, MAX_PAGES = 96, FILE_PAGES = 256, BRK_PAGES = 256, HUGE_PAGES = 1024 };
enum kind { ANON, FILE_PRIVATE, SHARED, HEAP, HUGE };

struct page {
	uint64_t word;	 // what it holds
	uint8_t prot;	 // PROT_*
	bool mapped, guard, lazy; // lazy: MADV_FREE: what it held, or zero
};

struct region {
	uint8_t *base; // NULL: this slot is free
	enum kind kind;
	int pages, file_page;
	struct page page[MAX_PAGES];
};

static struct region regions[REGIONS];
static struct page heap_pages[BRK_PAGES], huge_pages[HUGE_PAGES];
static uint8_t *heap_base, *huge_base;
static int heap_length; // pages
static uint64_t state;
static int file;
static bool have_guards;
static char maps_text[1 << 19];
static uint64_t scratch[WORDS];

static unsigned below(unsigned limit)
{
	return next_random(&state) % limit;
}

static uint64_t file_word(int page)
{
	return 0xf11e000000000001u + 2 * (uint64_t)page;
}

static void fill(uint64_t *page, uint64_t word)
{
	for (uint64_t i = 0; i < WORDS; i++)
		page[i] = word * (2 * i + 1);
}

static bool holds(const uint64_t *page, uint64_t word)
{
	for (uint64_t i = 0; i < WORDS; i++)
		if (page[i] != word * (2 * i + 1))
			return false;
	return true;
}

static uint64_t unwritten(const struct region *r, int page)
{
	return r->kind == FILE_PRIVATE ? file_word(r->file_page + page) : 0;
}

static struct region *free_slot(void)
{
	for (int i = 0; i < REGIONS; i++)
		if (!regions[i].base)
			return &regions[i];
	return NULL;
}

static struct region *any_region(void)
{
	for (int tries = 0; tries < 200; tries++) {
		struct region *r = &regions[below(REGIONS)];
		if (r->base)
			return r;
	}
	return NULL;
}

// A random run of pages of a region that are all mapped; false if the dice do not find one.
static bool any_run(struct region *r, int *first, int *count)
{
	*first = below(r->pages);
	*count = 1 + below(r->pages - *first);
	for (int i = *first; i < *first + *count; i++)
		if (!r->page[i].mapped)
			*count = i - *first;
	return *count > 0;
}

static bool whole(const struct region *r)
{
	for (int i = 0; i < r->pages; i++)
		if (!r->page[i].mapped)
			return false;
	return true;
}

static bool uniform(const struct region *r)
{
	for (int i = 0; i < r->pages; i++)
		if (r->page[i].prot != r->page[0].prot)
			return false;
	return whole(r);
}

static void map_region(struct region *r, enum kind kind, void *at, int pages)
{
	int flags = kind == SHARED ? MAP_SHARED | MAP_ANONYMOUS : kind == ANON ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE;
	r->file_page = kind == FILE_PRIVATE ? (int)below(FILE_PAGES - pages) : 0;
	uint8_t *base = mmap(at, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, flags | (at ? MAP_FIXED : 0),
			     kind == FILE_PRIVATE ? file : -1, (off_t)r->file_page * PAGE);
	CHECK(base != MAP_FAILED);
	r->base = base;
	r->kind = kind;
	r->pages = pages;
	for (int i = 0; i < pages; i++)
		r->page[i] = (struct page){.word = unwritten(r, i), .prot = PROT_READ | PROT_WRITE, .mapped = true};
}

static void op_map(void)
{
	struct region *r = free_slot();
	if (r)
		map_region(r, below(3), NULL, 1 + below(MAX_PAGES));
}

// A new mapping in the very place of an old one: looks the same in /proc/PID/maps, and all of it reads as new.
static void op_replace(void)
{
	struct region *r = any_region();
	if (r && whole(r)) // another region may lie in its holes
		map_region(r, below(2) ? r->kind : below(3), r->base, r->pages);
}

static void op_unmap(void)
{
	struct region *r = any_region();
	int first, count;
	if (!r || !any_run(r, &first, &count))
		return;
	CHECK(munmap(r->base + (size_t)first * PAGE, (size_t)count * PAGE) == 0);
	for (int i = first; i < first + count; i++)
		r->page[i].mapped = false;
	bool left = false;
	for (int i = 0; i < r->pages; i++)
		left |= r->page[i].mapped;
	if (!left)
		r->base = NULL;
}

static void write_page(uint8_t *at, struct page *page)
{
	page->word = next_random(&state) | 1;
	page->lazy = false;
	fill((uint64_t *)at, page->word);
}

static void op_write(void)
{
	struct region *r = any_region();
	int first, count;
	if (!r || !any_run(r, &first, &count))
		return;
	for (int i = first; i < first + count; i++)
		if (r->page[i].prot & PROT_WRITE && !r->page[i].guard && below(2))
			write_page(r->base + (size_t)i * PAGE, &r->page[i]);
}

// The kernel as the writer: read(2) into the page.
static void op_kernel_write(void)
{
	struct region *r = any_region();
	int first, count;
	if (!r || !any_run(r, &first, &count) || !(r->page[first].prot & PROT_WRITE) || r->page[first].guard)
		return;
	int page = below(FILE_PAGES);
	CHECK(pread(file, r->base + (size_t)first * PAGE, PAGE, (off_t)page * PAGE) == PAGE);
	r->page[first].word = file_word(page);
	r->page[first].lazy = false;
}

// Written, and written back: what it holds is what it held (or zero).
static void op_zero(void)
{
	struct region *r = any_region();
	int first, count;
	if (!r || !any_run(r, &first, &count) || !(r->page[first].prot & PROT_WRITE) || r->page[first].guard)
		return;
	memset(r->base + (size_t)first * PAGE, 0, PAGE);
	r->page[first].word = 0;
	r->page[first].lazy = false;
}

static void op_read(void)
{
	struct region *r = any_region();
	int first, count;
	if (!r || !any_run(r, &first, &count))
		return;
	for (int i = first; i < first + count; i++)
		if (r->page[i].prot & PROT_READ && !r->page[i].guard)
			*(volatile uint8_t *)(r->base + (size_t)i * PAGE);
}

static void op_protect(void)
{
	static const uint8_t prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE};
	struct region *r = any_region();
	int first, count;
	if (!r || !any_run(r, &first, &count))
		return;
	int prot = prots[below(4)];
	CHECK(mprotect(r->base + (size_t)first * PAGE, (size_t)count * PAGE, prot) == 0);
	for (int i = first; i < first + count; i++)
		r->page[i].prot = prot;
}

// MADV_DONTNEED: private memory goes back to zero or to the file; shared memory keeps what it holds. It passes over guards.
static void op_discard(void)
{
	struct region *r = any_region();
	int first, count;
	if (!r || !any_run(r, &first, &count))
		return;
	CHECK(madvise(r->base + (size_t)first * PAGE, (size_t)count * PAGE, MADV_DONTNEED) == 0);
	for (int i = first; i < first + count && r->kind != SHARED; i++) {
		r->page[i].word = unwritten(r, i);
		r->page[i].lazy = false;
	}
}

// MADV_REMOVE: a hole in shared memory (needs write permission).
static void op_punch(void)
{
	struct region *r = any_region();
	int first, count;
	if (!r || r->kind != SHARED || !any_run(r, &first, &count))
		return;
	if (madvise(r->base + (size_t)first * PAGE, (size_t)count * PAGE, MADV_REMOVE) != 0)
		FAIL("MADV_REMOVE: %d", errno);
	for (int i = first; i < first + count; i++)
		r->page[i].word = 0;
}

static void op_free(void)
{
	struct region *r = any_region();
	int first, count;
	if (!r || r->kind != ANON || !any_run(r, &first, &count))
		return;
	CHECK(madvise(r->base + (size_t)first * PAGE, (size_t)count * PAGE, MADV_FREE) == 0);
	for (int i = first; i < first + count; i++)
		r->page[i].lazy = true;
}

static void op_guard(void)
{
	struct region *r = any_region();
	int first, count;
	if (!have_guards || !r || r->kind != ANON || !any_run(r, &first, &count))
		return;
	bool install = below(2);
	int advice = install ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE;
	CHECK(madvise(r->base + (size_t)first * PAGE, (size_t)count * PAGE, advice) == 0);
	for (int i = first; i < first + count; i++) {
		struct page *page = &r->page[i];
		if (install || page->guard) // a guard replaces the page; without it there is a hole
			*page = (struct page){.prot = page->prot, .mapped = true, .guard = install};
	}
}

// Move page by page or in one piece to a new place; the pages that stay unmapped leave holes in both.
static void op_move(void)
{
	struct region *r = any_region();
	if (!r)
		return;
	uint8_t *to = mmap(NULL, (size_t)r->pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(to != MAP_FAILED && munmap(to, (size_t)r->pages * PAGE) == 0);
	for (int i = 0; i < r->pages; i++) {
		size_t at = (size_t)i * PAGE;
		if (r->page[i].mapped)
			CHECK(mremap(r->base + at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + at) == to + at);
	}
	r->base = to;
}

// In one piece where that is one mapping for the kernel too: a tracked part and a new one may not be (EFAULT).
static void op_move_whole(void)
{
	struct region *r = any_region();
	if (!r || !uniform(r))
		return;
	size_t length = (size_t)r->pages * PAGE;
	uint8_t *to = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(to != MAP_FAILED);
	if (mremap(r->base, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to) {
		r->base = to;
		return;
	}
	// Since Linux 6.17 mappings are moved one after the other, up to the first that may not be: give up what is where.
	CHECK(errno == EFAULT);
	CHECK(munmap(to, length) == 0 && munmap(r->base, length) == 0);
	r->base = NULL;
}

// MREMAP_DONTUNMAP: the pages move, the mapping stays behind empty.
static void op_move_pages(void)
{
	struct region *r = any_region(), *other = free_slot();
	if (!r || !other || r->kind != ANON || !uniform(r))
		return;
	size_t length = (size_t)r->pages * PAGE;
	uint8_t *to = mremap(r->base, length, length, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	if (to == MAP_FAILED) {
		CHECK(errno == EFAULT);
		return;
	}
	*other = *r;
	other->base = to;
	for (int i = 0; i < r->pages; i++)
		r->page[i] = (struct page){.prot = r->page[i].prot, .mapped = true};
}

static void op_resize(void)
{
	struct region *r = any_region();
	if (!r || r->kind != ANON || !uniform(r))
		return;
	int pages = 1 + below(MAX_PAGES);
	uint8_t *to = mremap(r->base, (size_t)r->pages * PAGE, (size_t)pages * PAGE, MREMAP_MAYMOVE);
	if (to == MAP_FAILED) {
		CHECK(errno == EFAULT);
		return;
	}
	for (int i = r->pages; i < pages; i++)
		r->page[i] = (struct page){.prot = r->page[0].prot, .mapped = true};
	r->base = to;
	r->pages = pages;
}

static void op_brk(void)
{
	int pages = below(BRK_PAGES + 1);
	CHECK(brk(heap_base + (size_t)pages * PAGE) == 0);
	for (int i = heap_length; i < pages; i++)
		heap_pages[i] = (struct page){.prot = PROT_READ | PROT_WRITE, .mapped = true};
	heap_length = pages;
	for (int i = 0; i < 20 && pages; i++) {
		int page = below(pages);
		write_page(heap_base + (size_t)page * PAGE, &heap_pages[page]);
	}
}

// Transparent huge pages: single writes, discards of parts.
static void op_huge(void)
{
	int first = below(HUGE_PAGES), count = 1 + below(HUGE_PAGES - first);
	if (below(4) == 0) {
		CHECK(madvise(huge_base + (size_t)first * PAGE, (size_t)count * PAGE, MADV_DONTNEED) == 0);
		for (int i = first; i < first + count; i++)
			huge_pages[i].word = 0;
	}
	for (int i = 0; i < 5; i++) {
		int page = below(HUGE_PAGES);
		write_page(huge_base + (size_t)page * PAGE, &huge_pages[page]);
	}
}

// Stack pages far below what has been used, left behind dirty.
static __attribute__((noinline)) void op_stack(void)
{
	volatile uint8_t deep[200000];
	for (size_t at = below(PAGE); at < sizeof(deep); at += PAGE)
		deep[at] = below(256);
}

static void step(void)
{
	static void (*const operations[])(void) = {
		op_map,	    op_map,	op_map,	  op_replace, op_unmap, op_write,      op_write,	op_write,
		op_zero,    op_read,	op_read,  op_protect, op_discard, op_discard,  op_punch,	op_free,
		op_guard,   op_guard,	op_move,  op_move_whole, op_move_pages, op_resize, op_brk,	op_huge,
		op_kernel_write, op_stack,
	};
	operations[below(sizeof(operations) / sizeof(*operations))]();
}

// The protection of a mapped page by /proc/self/maps: the text is sorted, and so are the questions within a region.
struct map_line {
	uint64_t start, end;
	int prot;
	bool shared;
};
static struct map_line lines[16384];
static int line_count;

static void read_maps(void)
{
	int maps = open("/proc/self/maps", O_RDONLY);
	size_t length = 0;
	for (ssize_t got; (got = read(maps, maps_text + length, sizeof(maps_text) - 1 - length)) > 0;)
		length += got;
	close(maps);
	CHECK(length < sizeof(maps_text) - 1);
	maps_text[length] = 0;
	line_count = 0;
	for (char *line = maps_text; *line; line = strchr(line, '\n') + 1) {
		struct map_line *l = &lines[line_count++];
		char *rest;
		l->start = strtoul(line, &rest, 16);
		l->end = strtoul(rest + 1, &rest, 16);
		l->prot = (rest[1] == 'r' ? PROT_READ : 0) | (rest[2] == 'w' ? PROT_WRITE : 0);
		l->shared = rest[4] == 's';
	}
}

static const struct map_line *find_map(uint64_t address)
{
	int low = 0, high = line_count;
	while (low < high) {
		int middle = (low + high) / 2;
		if (lines[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < line_count && lines[low].start <= address ? &lines[low] : NULL;
}

// Reads PROT_NONE pages too, and no guard. A kernel with proc_mem.force_override=ptrace must be given leave first.
static ssize_t read_page(int memory, uint8_t *at, int prot)
{
	ssize_t got = pread(memory, scratch, PAGE, (off_t)(uint64_t)at);
	if (got == -1 && prot == PROT_NONE) {
		CHECK(mprotect(at, PAGE, PROT_READ) == 0);
		got = pread(memory, scratch, PAGE, (off_t)(uint64_t)at);
		CHECK(mprotect(at, PAGE, PROT_NONE) == 0);
	}
	return got;
}

static void check_page(int memory, uint8_t *at, const struct page *page, enum kind kind, const char *name)
{
	const struct map_line *map = find_map((uint64_t)at);
	if (!page->mapped) // whether the hole is still one cannot be said: another mapping may lie there now
		return;
	if (!map || map->prot != page->prot || map->shared != (kind == SHARED))
		FAIL("%s: page %p: protection %d, is %d", name, at, page->prot, map ? map->prot : -1);
	ssize_t got = read_page(memory, at, page->prot);
	if (page->guard ? got != -1 : got != PAGE)
		FAIL("%s: page %p: guard %d, read gave %zd", name, at, page->guard, got);
	if (!page->guard && !holds(scratch, page->word) && !(page->lazy && holds(scratch, 0)))
		FAIL("%s: page %p holds %lx/%lx, expected %lx", name, at, scratch[0], scratch[1], page->word);
	if (page->prot & PROT_READ && !page->guard && memcmp(scratch, at, PAGE))
		FAIL("%s: page %p: two readings differ", name, at);
}

static int check(void)
{
	static const char *const names[] = {"anon", "file-private", "shared", "heap", "huge"};
	int memory = open("/proc/self/mem", O_RDONLY), checked = 0;
	CHECK(memory >= 0);
	read_maps();
	for (struct region *r = regions; r < regions + REGIONS; r++)
		for (int i = 0; r->base && i < r->pages; i++, checked++)
			check_page(memory, r->base + (size_t)i * PAGE, &r->page[i], r->kind, names[r->kind]);
	for (int i = 0; i < heap_length; i++, checked++)
		check_page(memory, heap_base + (size_t)i * PAGE, &heap_pages[i], HEAP, "heap");
	for (int i = 0; i < HUGE_PAGES; i++, checked++)
		check_page(memory, huge_base + (size_t)i * PAGE, &huge_pages[i], HUGE, "huge");
	CHECK(sbrk(0) == heap_base + (size_t)heap_length * PAGE);
	close(memory);
	return checked;
}

static void open_file(const char *path)
{
	file = open(path, O_RDWR | O_CREAT, 0600);
	CHECK(file >= 0);
	for (int i = 0; i < FILE_PAGES; i++) {
		fill(scratch, file_word(i));
		CHECK(pwrite(file, scratch, PAGE, (off_t)i * PAGE) == PAGE);
	}
}

static void set_up(const char *path)
{
	open_file(path);
	heap_base = (uint8_t *)(((uint64_t)sbrk(0) + PAGE - 1) / PAGE * PAGE);
	CHECK(brk(heap_base) == 0);
	size_t length = (size_t)HUGE_PAGES * PAGE, huge = 2 << 20;
	uint8_t *space = mmap(NULL, length + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	huge_base = (uint8_t *)(((uint64_t)space + huge - 1) / huge * huge);
	CHECK(mprotect(huge_base, length, PROT_READ | PROT_WRITE) == 0);
	madvise(huge_base, length, MADV_HUGEPAGE);
	for (int i = 0; i < HUGE_PAGES; i++)
		huge_pages[i] = (struct page){.prot = PROT_READ | PROT_WRITE, .mapped = true};
	void *probe = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	have_guards = madvise(probe, PAGE, MADV_GUARD_INSTALL) == 0;
	munmap(probe, PAGE);
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	state = strtoul(argv[1], NULL, 10);
	set_up(argv[2]);
	answer("ready %d", getpid());
	for (;;) {
		char line[64];
		read_command(line, sizeof(line));
		if (!strncmp(line, "step ", 5)) {
			for (int i = atoi(line + 5); i > 0; i--)
				step();
			answer("ok %d", atoi(line + 5)); // not checked: reading would fill the holes
		} else if (!strcmp(line, "check")) {
			answer("ok %d", check());
		} else if (!strcmp(line, "park")) {
			answer("parked");
		} else {
			answer("bye");
			return 7;
		}
	}
}
