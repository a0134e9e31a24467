"""What all packages use to access AWS: clients, translated errors, parallel requests and request bodies."""
