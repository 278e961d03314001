"""Query of the input, names and sidecars of the derivatives."""
