# SPDX-License-Identifier: Apache-2.0
"""One module per verb; ``main`` imports them all, so none imports anything heavy before it runs."""
