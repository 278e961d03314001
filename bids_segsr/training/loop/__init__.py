"""The loop that fits a generator: losses, critic, steps, validation, checkpoints."""
