"""The label vocabularies: codes, their order in every label vector, and what they mean to a clinician."""

from dataclasses import dataclass

__all__ = ["LABEL_SETS", "PALM", "PERIPHERAL", "PSMM", "Label", "LabelSet"]


@dataclass(frozen=True)
class Label:
    """One label: its `code` (column name), short `name` and clinical `meaning`."""

    code: str
    name: str
    meaning: str


@dataclass(frozen=True)
class LabelSet:
    """An ordered vocabulary; column k of every score matrix belongs to `labels[k]`.

    `pathologic` lists the codes whose presence makes an eye pathologic (and so a referral); each group of
    `exclusive` lists codes of which a correctly labelled image carries exactly one. `condition`: what those who screen
    with it look for, in words that continue a sentence ("screening for ...").
    """

    name: str
    labels: tuple[Label, ...]
    pathologic: tuple[str, ...]
    exclusive: tuple[tuple[str, ...], ...]
    condition: str = "retinal disease"

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(label.code for label in self.labels)

    @property
    def pathologic_columns(self) -> list[int]:
        """Where the labels of `pathologic` stand in a label vector."""
        return [self.codes.index(code) for code in self.pathologic]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, code: str) -> Label:
        for label in self.labels:
            if label.code == code:
                return label
        raise KeyError(f"Label set '{self.name}' has the codes {', '.join(self.codes)}. Received: {code!r}")


# RealMNet (npj Digital Medicine 2025), Table 1: staphyloma S, META-PM myopic maculopathy A.
# Pathologic myopia = maculopathy of grade >= 2 or a posterior staphyloma.
PSMM = LabelSet(
    name="psmm",
    labels=(
        Label("S0", "No staphyloma", "no posterior staphyloma"),
        Label("S1", "Posterior staphyloma", "outpouching of the posterior wall of the eye"),
        Label("A0", "No myopic lesion", "no myopic retinal lesion (META-PM category 0)"),
        Label("A1", "Tessellation only", "tessellated fundus only (META-PM category 1)"),
        Label("A2", "Diffuse atrophy", "diffuse chorioretinal atrophy (META-PM category 2)"),
        Label("A3", "Patchy atrophy", "patchy chorioretinal atrophy (META-PM category 3)"),
        Label("A4", "Macular atrophy", "macular atrophy (META-PM category 4)"),
    ),
    pathologic=("S1", "A2", "A3", "A4"),
    exclusive=(("S0", "S1"), ("A0", "A1", "A2", "A3", "A4")),
    condition="pathologic myopia",
)

# PALM / iChallenge-PM (Fang et al., Scientific Data 2024): the class is the first letter of the file name.
PALM = LabelSet(
    name="palm",
    labels=(
        Label("N", "Normal", "no high myopia"),
        Label("H", "High myopia", "high myopia without pathologic change"),
        Label("P", "Pathologic myopia", "pathologic myopia"),
    ),
    pathologic=("P",),
    exclusive=(("N", "H", "P"),),
    condition="pathologic myopia",
)

# RealMNet, section "Peripheral lesions": the network that PSMM trained, with a new head.
PERIPHERAL = LabelSet(
    name="peripheral",
    labels=(
        Label("P0", "No peripheral lesion", "no peripheral retinal lesion"),
        Label("P1", "Lattice degeneration or cystic tuft", "lattice degeneration or cystic retinal tuft (LDoCRT)"),
        Label("P2", "Holes or tears", "retinal holes or tears (HoT)"),
        Label("P3", "Retinal detachment", "rhegmatogenous retinal detachment (RRD)"),
        Label("P4", "Postoperative", "postoperative change (PC)"),
    ),
    pathologic=("P1", "P2", "P3", "P4"),
    exclusive=(),  # lattice degeneration and holes are often seen together
    condition="peripheral retinal lesions",
)

LABEL_SETS = {label_set.name: label_set for label_set in (PSMM, PALM, PERIPHERAL)}
