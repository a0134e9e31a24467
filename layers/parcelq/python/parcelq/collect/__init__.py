"""Collects the messages of jobs, and writes results and reports from these messages.

Every function that uses a store or a topic raises AwsError, StoreError or OSError if the store or topic refuses a
request, and ParcelqError if an object cannot be read. Docstrings name only other errors, and say what an error means
for the caller.
"""
