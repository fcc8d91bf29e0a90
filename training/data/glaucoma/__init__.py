"""The files of public pictures with outlines of disc and cup: REFUGE, RIGA, Drishti-GS; what REFUGE is handed in."""
