"""Networks of REFUGE2: glaucoma, optic disc and cup, fovea; as published, and for the box."""
