"""Images to instances with a trained model: embedding, tiles, results, and files to files in one process."""
