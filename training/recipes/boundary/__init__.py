"""Networks that tell the device border, lids and lashes of ultra-widefield pictures from the retina."""
