"""``python -m examples.digest``: send the digests that are due."""

from __future__ import annotations

from examples.digest.mail import send_due

if __name__ == "__main__":
    print(f"{send_due()} digests sent")
