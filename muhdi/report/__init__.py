"""Tables, pictures and readings of what a run left in its directory. No torch."""
