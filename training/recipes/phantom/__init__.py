"""Networks trained on drawn images; the shipped one is among them."""
