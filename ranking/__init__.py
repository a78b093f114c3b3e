"""Feature assembly, gradient boosting, the blend and the ranking service."""
