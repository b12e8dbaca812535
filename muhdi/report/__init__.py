"""Tables, images and sentences from what a run left in its directory. No torch."""
