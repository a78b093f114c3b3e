"""Formulas: arithmetic over what is known of each candidate, read from text without running any code.

A formula such as `purchase * coalesce(price, 1) ** 0.3 + 0.2 * coupon` is numbers, names, `+ - * / **`, parentheses and
a few functions. Names are spelled as in filters: a word, or anything between back quotes.
"""
