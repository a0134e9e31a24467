"""Steps: finding a program and its settings, and running it."""
