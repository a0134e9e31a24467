"""Jobs: workflows and their versions, the record of each job, and the looks that move it on.

Every function that uses a store or a topic raises AwsError, StoreError or OSError if the store or topic refuses a
request. Docstrings name only errors other than these three.
"""
