# SPDX-License-Identifier: Apache-2.0
"""mmap(2), mremap(2), madvise(2): the flags of linux/mman.h that Python's ``mmap`` module lacks, and those beside them.

The calls themselves are made inside another process, by injection, so there is no wrapper here.
"""

PROT_NONE = 0
PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4

MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_DROPPABLE = 0x08
"""Linux 6.11; a type like MAP_SHARED and MAP_PRIVATE, not a flag beside them."""
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_GROWSDOWN = 0x100
MAP_NORESERVE = 0x4000
MAP_FIXED_NOREPLACE = 0x100000

MREMAP_MAYMOVE = 1
MREMAP_FIXED = 2

MADV_RANDOM = 1
MADV_SEQUENTIAL = 2
MADV_DONTFORK = 10
MADV_MERGEABLE = 12
MADV_HUGEPAGE = 14
MADV_NOHUGEPAGE = 15
MADV_DONTDUMP = 16
MADV_WIPEONFORK = 18
MADV_POPULATE_WRITE = 23
MADV_GUARD_INSTALL = 102

MLOCK_ONFAULT = 1
