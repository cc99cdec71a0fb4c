"""What version 0.1.0 wrote is read by this version."""
