"""The deployed flow in virtual time: a model of AWS that the real planning of looks, draining and merging drives."""
