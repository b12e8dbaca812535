"""What a run is, in words: the recipe, its sections, and the files it is read from. No torch."""
