"""What a trained network is: weights, card, hash; find, verify and import."""
