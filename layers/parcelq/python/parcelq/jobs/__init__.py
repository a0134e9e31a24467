"""Jobs: workflows and their versions, the record of each job, and looks (messages that ask to check a job).

Every function that uses a store or a topic raises AwsError, StoreError or OSError if the store or topic refuses a
request. Docstrings do not repeat these three errors.
"""
