"""The largest image that OpenCV decodes; set before OpenCV is imported."""

import os

MAX_PIXELS = 64_000_000
"""Pixels of the largest image that is decoded: more than full-frame cameras have, and 192 MB as RGB."""

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
