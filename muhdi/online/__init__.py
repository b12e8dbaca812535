"""Online methods: a network that adapts while it predicts. One file for each method."""
