"""Speed, measured beside what people would use instead. Run by `make bench`; see README.md."""
