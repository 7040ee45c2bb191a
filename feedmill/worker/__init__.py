"""What workers do: claim what is due, plan its chunks, deliver them, and keep what cannot be."""
