"""Runs jobs on one machine: the uploader, processor and collector over topics in memory and a folder."""
