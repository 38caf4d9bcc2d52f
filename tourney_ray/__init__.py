"""Training tournaments on a Ray cluster: draw, train, evaluate, decide, and be able to prove it.

Importing this package imports nothing else: Ray, DuckDB and torch are loaded where they are used.
"""

__version__ = "0.1.0"
