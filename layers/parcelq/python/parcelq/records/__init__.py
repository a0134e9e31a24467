"""Records: how a source is cut into entries."""
