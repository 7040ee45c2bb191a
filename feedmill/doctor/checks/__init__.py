"""What the doctor looks at: one module for each kind of key or setting. Imported by the runner alone."""
