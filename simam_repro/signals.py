"""What commands and training agree on about signals."""

# Who stops a whole group of processes (timeout, a cluster) often tells one of them twice: within this time a signal
# that comes again is the same wish.
SAME_SIGNAL_SECONDS = 1.0
