"""Tests of the room online."""
