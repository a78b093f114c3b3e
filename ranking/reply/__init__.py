"""Replies to a person's text: an intent's template, else passages with their sources, else a hand-over to a person."""
