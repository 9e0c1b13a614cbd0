// SPDX-License-Identifier: Apache-2.0
// What every C victim shares: it reads one-line commands on fd 0 and answers each with one line on fd 1.
// No malloc and no stdio buffers: what lies in memory is only what the victim itself puts there.
#ifndef VICTIM_H
#define VICTIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// One write(2) per line, so that lines of several threads never mix.
__attribute__((format(printf, 1, 2))) static inline void answer(const char *format, ...)
{
	char line[1024];
	va_list args;
	va_start(args, format);
	int length = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (length > (int)sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	for (int done = 0; done < length;) {
		ssize_t written = write(1, line + done, length - done);
		if (written < 0 && errno != EINTR)
			_exit(98);
		if (written > 0)
			done += written;
	}
}

#define FAIL(...)                                                                                                      \
	do {                                                                                                           \
		answer("FAIL " __VA_ARGS__);                                                                           \
		_exit(99);                                                                                             \
	} while (0)

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			FAIL("%s:%d: %s (errno %d)", __FILE_NAME__, __LINE__, #condition, errno);                      \
	} while (0)

// The next command without its newline. The end of the input is the end of the victim.
static inline void read_command(char *line, size_t size)
{
	size_t length = 0;
	for (;;) {
		char byte;
		ssize_t got = read(0, &byte, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got != 1)
			_exit(0);
		if (byte == '\n')
			break;
		if (length + 1 < size)
			line[length++] = byte;
	}
	line[length] = 0;
}

static inline uint64_t next_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15u;
	uint64_t z = *state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

#endif
