"""Pages of results: one HTML file that opens anywhere, with its pictures, outlines and tables in it."""
