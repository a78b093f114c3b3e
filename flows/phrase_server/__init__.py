"""A causal language model by folder behind the OpenAI-compatible chat protocol, for `POLYRANK_PHRASING_URL`.

A process of its own: the services import no torch, and a model that writes must not slow down those that rank.
"""
