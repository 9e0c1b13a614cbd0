# SPDX-License-Identifier: Apache-2.0
"""``python -m icecore.daemon.service``: icecored."""

import sys

from icecore.daemon.service.main import main

sys.exit(main())
