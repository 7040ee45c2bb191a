"""People share texts, links and pictures, like, comment, and follow each other."""
