"""Parcelq: a file of records in, a file of results out, over SQS, exactly.

Each room is a package, and imports only rooms below it:

    aws         clients, translated errors, requests in flight
    store       where objects lie: a bucket or a folder
    lineage     which bytes of its source a message stands for
    records     how a source is cut into entries
    topics      messages and topics (SQS queues): publish, pull, acknowledge, lease, create, delete
    steps       find a step and its settings, and run it;  `step` writes one as a Python function
    upload      files and objects, cut into parcels and published
    process     what becomes of pulled messages; dead letters; the worker
    collect     messages into segments, segments into results and reports
    config      the environment of the deployed functions
    errors      everything that is raised on purpose;  `limits`, what AWS allows
"""
