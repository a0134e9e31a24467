"""Benchmarks that compare Parcelq with other tools. `make bench` runs all benchmarks; see README.md."""
