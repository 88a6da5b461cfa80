"""Benchmarks are scripts that import each other: pytest is not to look for tests or doctests in them."""

collect_ignore_glob = ["*.py"]
