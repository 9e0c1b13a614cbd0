# SPDX-License-Identifier: Apache-2.0
"""What differs from one processor to the next: numbers of system calls, registers, machine code."""
