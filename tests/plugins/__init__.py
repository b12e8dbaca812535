"""A small foreign package, and what it goes through."""
