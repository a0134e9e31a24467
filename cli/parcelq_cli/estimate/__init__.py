"""The command `parcelq estimate`: predicts cost and duration of a file on AWS, from a sample of its records."""
