"""How the box is: for people and for monitors."""
