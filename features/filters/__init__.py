"""The one language that names items: in requests (`filter`) and in the workspace's tasks (`items`).

    category == "DAIRY" and 1 <= price < 5 and not brand in ["x", "y"] and available

    == != < <= > >=                   between an attribute and a value, or two attributes; may be chained
    in [...]    not in [...]          one of the values, none of them
    is missing  is not missing        whether there is a value
    available                         an attribute that holds true or false stands alone
    not   and   or   ( )              in this order of precedence

A value is a number (`5`, `-0.5`, `1e-3`), `true`, `false`, or a text in double or single quotes with JSON's escapes, so
what any JSON encoder makes of a string is a text here. A name is a word of any script; one with other characters, or
one that is a word of the language, stands in back quotes: `` `price per kg` ``.

**A missing value satisfies no comparison**, be it `==`, `!=`, `in` or `not in`, and does not stand for true. `not`
turns round what it stands before, so `not price < 5` holds for an item without a price, and `price >= 5` does not.

`is missing` rather than a function `exists(x)`: it reads as `in` does, and a language without functions has no list of
functions to learn.

`parse` (`parse.py`, a lark grammar in `grammar.py`) gives the tree of `tree.py`; `mask` (`evaluate.py`) checks it
against the kinds of the columns (`check.py`), then evaluates it column by column. Nothing of a text is ever executed.
"""
