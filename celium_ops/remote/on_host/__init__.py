"""Small programs that run on a host: sent as they are, in a command line, so nothing is left there; stdlib only."""
