"""Processes pulled messages: runs the step over them and publishes the outputs."""
