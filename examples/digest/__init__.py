"""An e-mail digest: one message a user and period about what they have not seen."""
