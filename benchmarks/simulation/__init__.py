"""The deployed flow in virtual time: a model of AWS, driven by the product's own code that plans looks, draining and
merging.
"""
