"""Tests of the room golden."""
