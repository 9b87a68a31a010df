"""Python imports this at its start: conftest.py puts this folder on PYTHONPATH."""

import narrow_network  # noqa: F401
