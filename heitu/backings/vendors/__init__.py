"""One file a maker. Each has a `BACKING`; the comments say where its facts are from, and of what date."""
