"""Tables, labels, point-in-time features and the feature store."""
