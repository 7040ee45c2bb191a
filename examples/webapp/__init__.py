"""The smallest honest web app: people follow each other, post, and love posts."""
