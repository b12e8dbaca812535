"""Built-in street scenes: drawn, labelled, deterministic by seed, and no file needed."""
