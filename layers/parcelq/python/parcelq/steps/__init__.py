"""Steps: finds a step's program and settings, and runs the program."""
