"""Parcelq: a file of lines in, a file of results out, over SQS, exactly.

Names are imported from the module that they belong to, so that a function loads only what it uses:

    topics      create, list, count, clear and delete topics
    publish     publish one message, or any number of them;  `bodies` writes them into requests
    pull        pull messages, acknowledge them, reset their deadline;  `lease` keeps them locked
    message     what a message is, and how it travels;  `overflow` for bodies too large for one
    parcels     cut bytes at line ends;  `lineage` tells which bytes of its source a message stands for
    transfer    upload files;  `objects` uploads S3 objects, whole or in ranges
    steps       find a step and its settings;  `run` runs it;  `warm` keeps its process for the next run
    step        write a step as a Python function
    process     what becomes of pulled messages;  `runs` runs groups of them;  `worker` is the loop around it
    drain       a topic into segments;  `collect` segments into results;  `download` both into one file
    redrive     dead letters: look at them, send them back
    config      the environment of the deployed functions
    errors      everything that is raised on purpose;  `limits`, what AWS allows
"""
