"""Jobs: workflows and their versions, the record of each job, and the looks that move it on.

Whatever uses a store or a topic raises AwsError, StoreError or OSError where that refuses a request. Docstrings name
other errors.
"""
