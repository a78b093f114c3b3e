"""Watching texts as they come: scores by the current release, trends by series, alerts beyond the expected range."""
