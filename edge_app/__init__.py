"""The edge application: screens image files on the machine they lie on, without a network and without Keras."""
