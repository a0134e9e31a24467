"""Jobs: the record of each, the looks that move it on, and what follows from a look."""
