"""Evidence behind every figure in the documentation; each module runs with ``python -m benchmarks.NAME``."""
