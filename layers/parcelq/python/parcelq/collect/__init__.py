"""Collecting: from messages to results and reports."""
