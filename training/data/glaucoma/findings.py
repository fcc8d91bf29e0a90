"""Fifteen findings of retinal photographs, by which networks of glaucoma look at pictures."""

from keras_realmnet.tasks.vocabulary import Label, LabelSet

__all__ = ["FINDINGS"]

# What readers marked in the photographs from which the network of findings of REFUGE2's solution (Son, MICCAI 2020) has
# learned (Park et al., Healthcare Informatics Research 2018). The codes are ours, those of lesions as elsewhere.
FINDINGS = LabelSet(
    name="findings",
    labels=(
        Label("HE", "Haemorrhage", "haemorrhage"),
        Label("EX", "Hard exudate", "hard exudate"),
        Label("SE", "Cotton wool spot", "cotton wool spot"),
        Label("DRUSEN", "Drusen", "drusen and drusenoid deposits"),
        Label("PIGMENT", "Pigmentary change", "change of the retinal pigment"),
        Label("VESSEL", "Vascular abnormality", "any abnormality of vessels"),
        Label("MEMB", "Membrane", "membrane on the retina"),
        Label("FLUID", "Fluid", "accumulation of fluid"),
        Label("ATROPHY", "Atrophy or scar", "chorioretinal atrophy or scar"),
        Label("CHOROID", "Choroidal lesion", "lesion of the choroid"),
        Label("HOLE", "Macular hole", "macular hole"),
        Label("MYELIN", "Myelinated fibres", "myelinated nerve fibres"),
        Label("RNFLD", "Nerve fibre defect", "defect of the layer of nerve fibres"),
        Label("GDISC", "Glaucomatous disc", "change of the optic disc as in glaucoma"),
        Label("NGDISC", "Other disc change", "other change of the optic disc"),
    ),
)
