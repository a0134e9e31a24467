"""Collecting: from messages to results and reports.

Whatever uses a store or a topic raises AwsError, StoreError or OSError where that refuses a request, and ParcelqError
where an object cannot be read. Docstrings name other errors, and what these mean for the caller.
"""
