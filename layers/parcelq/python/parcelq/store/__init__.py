"""Stores: hold objects, in a bucket or in a folder."""
