"""Changes of the catalogue while a release serves: text in, searchable within seconds, no rebuild and no retraining.

A change is durable first (`features.item_log`). Each service then lays what changed over the release it serves, with
the release's own encoder and templates, and the next refresh of features, index or models takes the changes in.
"""
