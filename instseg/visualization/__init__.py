"""Arrays to pictures, which are RGB arrays of uint8, and numbers to charts. Nothing here reads or writes files."""
