"""Jobs: workflows and their versions, the record of each job, and the looks that advance it."""
