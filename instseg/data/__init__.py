"""Where training pairs come from: generated discs, and folders of images and labels."""
