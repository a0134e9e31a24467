"""Jobs on a deployed stack: puts workflows and files, follows jobs, and cancels, resumes and redrives jobs."""
