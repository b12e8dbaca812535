"""Tests of the room retention."""
