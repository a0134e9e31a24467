"""Processes pulled messages: runs the step over the messages and publishes the outputs."""
