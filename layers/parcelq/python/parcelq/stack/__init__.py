"""Jobs on a deployed stack: uploads workflows and files, and follows, cancels, resumes and redrives jobs."""
