import lab.threads  # noqa: F401  (before NumPy and PyTorch)
