"""The networks of REFUGE2: glaucoma, optic disc and cup, fovea."""
