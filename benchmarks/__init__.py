"""How fast the lab is: ``python -m benchmarks``."""
