"""A run on disk and on screen: its directory, states, environment, loggers and progress."""
