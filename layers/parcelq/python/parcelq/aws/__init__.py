"""Access to AWS for all packages: clients, translated errors, parallel requests, request bodies."""
