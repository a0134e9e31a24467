"""Stores of objects, in a bucket or in a folder."""
