"""Simulates the deployed functions in virtual time: a model of AWS runs the product's own code that plans looks (checks
of jobs), draining and merging.
"""
