"""The files of the PALM challenge (iChallenge-PM): its data set, in two layouts, and what is handed in."""
