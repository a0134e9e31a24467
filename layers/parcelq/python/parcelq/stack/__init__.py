"""Jobs on a deployed stack: putting workflows and files, following jobs, and cancelling, resuming, redriving them."""
