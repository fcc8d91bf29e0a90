"""Data sets of pictures on the disk, with what is known of them: public collections, and a researcher's own."""
