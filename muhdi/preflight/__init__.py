"""What is done before training: survey folders, write a recipe, inspect, check, fill the cache."""
