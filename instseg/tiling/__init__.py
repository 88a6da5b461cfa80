"""Images in tiles: where tiles lie, how large they are, and how their instances become those of the image."""
