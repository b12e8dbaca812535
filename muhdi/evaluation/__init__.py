"""Scores: of one network on one domain, and of a whole sequence."""
