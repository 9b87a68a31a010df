"""Puts ``benchmarks/`` on the path: its scripts are not a package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
