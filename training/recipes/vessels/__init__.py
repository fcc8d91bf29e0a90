"""Networks that tell the vessels of the retina; as published, and for the box; and the data that they are tried on."""
