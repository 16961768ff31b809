"""Labs under throw-away names on this machine's LXD, and what drives and inspects them."""
