"""What every part needs of AWS: clients, translated errors, requests in flight, request bodies."""
