"""What the benchmarks stand on: timing and printing, and a tournament to measure. `make bench` runs nothing in here."""
