"""Why a head says what it says: which words of a text its logit comes from, and where the transformer looks."""
