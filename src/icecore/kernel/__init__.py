# SPDX-License-Identifier: Apache-2.0
"""The kernel's interfaces, one file each, named as the kernel names them.

The only place with ctypes, ioctl numbers and struct layouts. Functions take Python values and raise ``OSError``;
policy, retries and convenience belong to the floors above.
"""
