"""Writes a report as a page: one HTML file that loads no other files."""
