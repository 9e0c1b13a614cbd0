# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint is on disk: layers, chains, the head and the store. Knows nothing of processes or sockets."""
