"""Training: from what is asked for to settings and data, the loop and its steps, validation, and the report."""
