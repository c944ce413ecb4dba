"""Whole jobs on Prism, which `make prism-test` builds."""

import os

# Not for `make test`: Prism takes minutes to build, and Go.
PRISM = os.environ.get("HELIOGRAPH_PRISM")
collect_ignore_glob = [] if PRISM else ["test_*.py"]
