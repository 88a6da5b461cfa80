"""Labels to the files of other tools."""
