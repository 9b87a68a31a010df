"""The largest image that OpenCV decodes; it reads the setting when it is loaded."""

import os

MAX_PIXELS = 64_000_000
"""Pixels of the largest image that is decoded: more than cameras of full format make, and 192 MB as RGB."""

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
