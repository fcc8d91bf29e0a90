"""What accompanies a bundle: a card for people and a list of parts for machines, made of the bundle alone."""
