"""Several datasets in one training: joined tables and splits, sampling, and copies across sources."""
