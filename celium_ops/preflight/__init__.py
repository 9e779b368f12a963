"""Whether a host is fit to work and to be paid: judged from what it showed, without touching it."""
