"""Tables and sweeps of the papers."""
