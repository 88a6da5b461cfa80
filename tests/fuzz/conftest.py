"""The modules beside the test import each other as scripts do: pytest is not to look for doctests in them."""

collect_ignore = ["corpus.py", "mutate.py", "run.py", "targets.py", "worker.py"]
