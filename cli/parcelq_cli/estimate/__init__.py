"""The command `parcelq estimate`: what a file will cost and take on AWS, from a sample of its lines."""
