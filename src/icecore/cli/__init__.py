# SPDX-License-Identifier: Apache-2.0
"""The command line, ``icecore``: one class per verb. It starts fast: what is heavy is imported inside the verb."""
