"""Changed photos of faces, for tests of robustness."""
