# SPDX-License-Identifier: Apache-2.0
"""The live half of write protection: registering mappings with the target's userfaultfd, collecting and re-arming.

What makes it safe is proof by the kernel: every scan that re-arms carries PM_SCAN_CHECK_WPASYNC, so a mapping that was
made, moved or replaced since it was registered answers EPERM, and is registered and taken whole. A mapping that only
changed its borders or protection keeps its registration and is not read again.
"""

import errno
from contextlib import suppress

from icecore.daemon.tracker.file_pages import FilePages
from icecore.daemon.tracker.foreign import is_hugetlb
from icecore.daemon.tracker.layout import EVERYTHING, Backing, Layout, Piece
from icecore.daemon.tracker.regions import (
    POPULATED,
    as_bytes,
    classes,
    covers,
    has,
    is_copy,
    is_data,
    merged,
    pages_between,
    runs_of,
    unproven,
)
from icecore.daemon.tracker.shared_memory import populated_pages
from icecore.kernel.pagemap import (
    PAGE_IS_FILE,
    PAGE_IS_GUARD,
    PAGE_IS_PFNZERO,
    PAGE_IS_WRITTEN,
    PM_SCAN_CHECK_WPASYNC,
    PM_SCAN_WP_MATCHING,
    Pagemap,
    Regions,
    supported_categories,
)
from icecore.kernel.userfaultfd import UFFDIO_REGISTER_MODE_WP, register, unregister, write_protect, write_unprotect
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, intersect, subtract, union

ARM = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC


class Watch:
    """What is registered in one address space, and what is known of its pages."""

    def __init__(self, pid: int, pagemap: Pagemap, userfaultfd: int) -> None:
        self._pid = pid
        self._pagemap = pagemap
        self._userfaultfd = userfaultfd
        self._ours: dict[Backing, Runs] = dict.fromkeys(Backing, EMPTY)
        """Registered by us, and looked at, as what. While the target runs, the list of mappings is older than what a
        scan finds: what was taken for anonymous may have been a file already, and its copies were not noted."""
        self.refused: Runs = EMPTY
        """Could not be registered: another userfaultfd has it, or the kernel cannot protect such a mapping."""
        self._copies: Runs = EMPTY
        self._seen: list[FilePages] = []
        """Newer than ``_copies``."""
        self.version = object()
        """Another one whenever anything here has changed."""

    @property
    def copies(self) -> Runs:
        """Pages of private file mappings that may differ from the file. Complete but for pages that are WRITTEN."""
        for file in self._seen:
            self._copies = union(subtract(self._copies, file.looked_at), file.copies)
        self._seen = []
        return self._copies

    def saw(self, file: FilePages) -> None:
        """A look at a frozen target; made use of later."""
        self._seen.append(file)
        self.version = object()

    def collect(self, layout: Layout) -> Runs:
        """Pages written since the last call, and all data pages of mappings that are new; see ``Tracker.collect``."""
        self._ours = {backing: _still(runs, layout, layout.of(backing)) for backing, runs in self._ours.items()}
        self.refused = _still(self.refused, layout, layout.everything)
        self._copies = _still(self.copies, layout, layout.file)
        self.version = object()
        return merged([self._collect(piece) for piece in layout.pieces])

    def unwatched(self, layout: Layout) -> Runs:
        """Pages whose bits prove nothing, since we never saw them registered as what they are."""
        return merged([subtract(layout.of(backing), runs) for backing, runs in self._ours.items()])

    def registered(self, scope: Runs) -> Runs:
        """The pages of ``scope`` that are ours: written pages among them may have been named, and re-armed."""
        return intersect(merged(list(self._ours.values())), scope)

    def release(self, pages: Runs) -> None:
        """Nobody wants to know of these any more: writing to them costs the target nothing from now on."""
        self.version = object()
        for start, end in as_bytes(self.registered(pages)):
            with suppress(OSError):  # unmapped, or not ours any more
                unregister(self._userfaultfd, start, end - start)
        self._ours = {backing: subtract(runs, pages) for backing, runs in self._ours.items()}

    def _collect(self, piece: Piece) -> Runs:
        ours = self._ours[piece.backing]
        if covers(ours, piece.start // PAGE_SIZE, piece.end // PAGE_SIZE):
            return self._collect_known(piece, piece.start, piece.end)
        whole = pages_between(piece.start, piece.end)
        known, new = intersect(ours, whole), subtract(whole, ours)
        parts = [self._collect_known(piece, start, end) for start, end in as_bytes(known)]
        return merged(parts + [self._enrol(piece, start, end) for start, end in as_bytes(new)])

    def _collect_known(self, piece: Piece, start: int, end: int) -> Runs:
        try:
            regions = self._scan(piece, start, end, flags=ARM, inverted=unmarked(), mask=PAGE_IS_WRITTEN | unmarked())
        except ProcessLookupError:
            raise
        except OSError:
            # EPERM: not what we registered any more. Whatever the error, pages before the failing one have been
            # protected again and were not named (kernel ABI), so nothing less than all of them will do.
            return self._enrol(piece, start, end)
        chosen = is_copy(regions) if piece.backing is Backing.FILE else is_data(regions)
        found = runs_of(regions, chosen)
        if piece.backing is Backing.FILE and len(found):
            self._copies = union(self.copies, found)
        return found

    def _enrol(self, piece: Piece, start: int, end: int) -> Runs:
        """Register, and only then look: a page populated in between is written, so the next call names it."""
        whole = pages_between(start, end)
        try:
            registered = _is_worth_it(piece) and self._register(start, end)
        except MemoryError:
            return EMPTY  # unmapped since it was listed
        if registered:
            self._ours[piece.backing] = union(self._ours[piece.backing], whole)
            self.refused = subtract(self.refused, whole)
            return self._take_all(piece, start, end)
        seen = not len(subtract(whole, self.refused))
        self._ours[piece.backing] = subtract(self._ours[piece.backing], whole)
        self.refused = union(self.refused, whole)
        # Always in doubt from now on, so that the frozen round reads it anyway: reading it live once is enough.
        return EMPTY if seen else self._all_data(piece, start, end, self._scan(piece, start, end))

    def _register(self, start: int, end: int) -> bool:
        """False: this mapping cannot be (EINVAL, EPERM) or is somebody else's (EBUSY). MemoryError: nothing there."""
        try:
            register(self._userfaultfd, start, end - start, UFFDIO_REGISTER_MODE_WP)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError from error
            if error.errno in (errno.EBUSY, errno.EINVAL, errno.EPERM):
                return False
            raise
        return True

    def _take_all(self, piece: Piece, start: int, end: int) -> Runs:
        try:
            regions = self._scan(piece, start, end, flags=ARM, inverted=unmarked(), mask=unmarked())
            self._protect_marked(regions)
            if piece.backing is Backing.ANONYMOUS:
                self._unmark_zero(piece, start, end)
        except ProcessLookupError:
            raise
        except OSError:
            # Replaced while we registered it. The frozen round, or the next one here, finds what is unprotected.
            regions = self._scan(piece, start, end)
        return self._all_data(piece, start, end, regions)

    def _protect_marked(self, regions: Regions) -> None:
        """Pages that were marked before their mapping was registered, and so were not protected by the scan.

        mremap() next to a registered mapping may join the two, and drops the registration of both but not the marks
        of the pages that stayed: their next write makes them writable with the mark on, and no later one is ever
        reported (mremap_userfaultfd_prep in fs/userfaultfd.c; seen on 6.18).
        """
        for start, end in as_bytes(runs_of(regions, ~unproven(regions))):
            write_protect(self._userfaultfd, start, end - start)

    def _unmark_zero(self, piece: Piece, start: int, end: int) -> None:
        """Zero pages that were marked likewise."""
        regions = self._scan(piece, start, end, inverted=PAGE_IS_WRITTEN, mask=PAGE_IS_WRITTEN | PAGE_IS_PFNZERO)
        for first, last in as_bytes(runs_of(regions, has(regions, PAGE_IS_PFNZERO))):
            write_unprotect(self._userfaultfd, first, last - first)

    def _all_data(self, piece: Piece, start: int, end: int, regions: Regions) -> Runs:
        whole = pages_between(start, end)
        if piece.backing is Backing.FILE:
            found = runs_of(regions, is_copy(regions))
            self._copies = union(subtract(self.copies, whole), found)
            return found
        found = runs_of(regions, is_data(regions))
        if piece.backing is Backing.SHARED:
            return union(found, intersect(whole, populated_pages(self._pid, piece)))
        return found

    def _scan(self, piece: Piece, start: int, end: int, *, flags: int = 0, inverted: int = 0, mask: int = 0) -> Regions:
        """The populated regions. FILE is asked for only where it decides something, since it is slow."""
        returned = classes() | (PAGE_IS_FILE if piece.backing is Backing.FILE else 0)
        return self._pagemap.scan(
            start, end, flags=flags, inverted=inverted, mask=mask, anyof=POPULATED, returned=returned
        )


def unmarked() -> int:
    """Categories of pages that are not named, and so must not get a mark: with one they would look like data to
    ``quick_scan``."""
    return PAGE_IS_PFNZERO | supported_categories() & PAGE_IS_GUARD


def _still(runs: Runs, layout: Layout, there: Runs) -> Runs:
    """As far as the layout reaches, only what is still there; the rest is other clients' and was not looked at."""
    kept = intersect(runs, there)
    return kept if layout.spans is EVERYTHING else union(subtract(runs, layout.scope), kept)


def _is_worth_it(piece: Piece) -> bool:
    """Shared memory is in doubt whatever its bits say, and protecting it is not free of risk: MADV_GUARD_INSTALL never
    returns where there are protected pages in a mapping that is not anonymous (seen on 6.18)."""
    return piece.backing is not Backing.SHARED and not is_hugetlb(piece.vma)
