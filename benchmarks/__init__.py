"""Benchmarks that compare Parcelq with other tools. Run them with `make bench`; see README.md."""
