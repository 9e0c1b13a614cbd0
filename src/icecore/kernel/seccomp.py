# SPDX-License-Identifier: Apache-2.0
"""seccomp(2): the modes that /proc/PID/status shows. Filters cannot be read or installed from here."""

SECCOMP_MODE_DISABLED = 0
SECCOMP_MODE_STRICT = 1
SECCOMP_MODE_FILTER = 2
