"""Collects messages into segments, and writes results and reports from segments."""
