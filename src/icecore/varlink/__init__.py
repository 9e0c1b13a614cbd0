# SPDX-License-Identifier: Apache-2.0
"""Varlink: NUL-terminated JSON on a Unix stream socket, with a published interface (https://varlink.org).

Floor 1, beside ``kernel`` and ``storage``: framing, interface descriptions, dispatch of requests to handlers, and a
synchronous client. It knows nothing of processes or checkpoints; of icecore it knows the error tree only, so that an
error which the daemon raises is the same class again in the client. No trio here: the command line starts fast, and
the server is the daemon's.
"""
