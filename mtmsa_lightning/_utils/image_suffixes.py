"""Suffixes of files that are, or are not, read as images."""

IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jp2", ".avif",
        ".heic", ".heif",
    }
)  # fmt: skip
"""Suffixes, in lower case, of the files that are read as images, whatever their content."""

RAW_SUFFIXES = frozenset(
    {".dng", ".nef", ".nrw", ".arw", ".cr2", ".cr3", ".raf", ".orf", ".rw2", ".pef", ".srw"}
)
"""Suffixes of camera raw files, most of which are TIFF files whose first picture is a small preview."""

DATA_SUFFIXES = frozenset(
    {
        ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".mat",
        ".npy", ".npz", ".parquet", ".pts", ".lm", ".lst", ".log", ".py", ".m", ".zip", ".tar", ".gz", ".tgz",
        ".xlsx", ".ini",
    }
)  # fmt: skip
"""Suffixes of files beside images, which releases have many of: they are not opened to tell what they are."""
