"""How images come in: over the network and from watched folders."""
