import lab.threads  # noqa: F401
