"""Watching texts as they come: scores by the current release, trends by topic or target, alerts on negative news."""
