"""Steps: finds a program and its settings, and runs it."""
