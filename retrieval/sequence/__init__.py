"""A user's next item from the order of the last ones: a causal transformer over item vectors, read without torch."""
