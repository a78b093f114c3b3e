"""A release beside the current one: would users see worse answers if it were published?"""
