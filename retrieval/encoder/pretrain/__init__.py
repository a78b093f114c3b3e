"""Domain-adaptive pretraining: the backbone reads the unlabelled texts of its domain before any task."""
