"""Runs jobs on one machine: the uploader, the processor and the collector use topics in memory and a folder instead of
AWS.
"""
