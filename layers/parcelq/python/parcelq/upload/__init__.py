"""Uploads files and S3 objects: cuts them into parcels (groups of records) and publishes the parcels."""
