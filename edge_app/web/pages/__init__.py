"""What each page shows and does; who may ask for it is settled before, by routes.py."""
