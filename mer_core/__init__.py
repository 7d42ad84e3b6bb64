"""The engine of MER Explorer: datasets -> features -> models -> explain -> evaluate -> runs -> plots.

A stage imports only stages to its left (`tests/test_architecture.py` enforces it). Nothing heavy is imported here.
"""

__version__ = "0.1.0"
