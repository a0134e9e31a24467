"""Jobs: workflows and their versions, and what is known of each job."""
