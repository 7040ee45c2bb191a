"""Programs that show how Feedmill is used; not installed."""
