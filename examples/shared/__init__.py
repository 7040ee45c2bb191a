"""What the example sites share: people and posts, feeds, and the page."""
