"""The bodies of the flows: plain functions from folders of one step to the folder of the next."""
