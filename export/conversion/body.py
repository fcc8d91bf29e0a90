"""The part of a convolutional network that becomes int8: all between the pixels and what decides."""

from collections.abc import Sequence

__all__ = ["CONVOLUTIONAL", "body_of"]

# The precision of such an artifact. The rounding of many small convolutions' weights alone moves single probabilities
# further than in a network with attention (EfficientNet-Lite0 on PALM: the 99th percentile by .13, by .07 with
# corrected biases), so the contract has a wider limit for the tail, and one for class maps (.98 there); means,
# decisions and scores have those of int8.
CONVOLUTIONAL = "int8_static_convolutional"


def body_of(sources: Sequence[Sequence[int]], weighted: Sequence[bool]) -> list[int]:
    """The numbers of the operations that lie on a way from one with weights to another, the first one included.

    What comes before the first convolution scales the pixels, which are float; what no further weights come after
    decides, or explains: the head with its class maps, or the last convolution with its activation. Both stay float.

    Args:
        sources: of each operation, in an order in which they can be computed, the numbers of those it reads.
        weighted: which of them are convolutions and dense layers.
    """
    begun: set[int] = set()  # with weights, or after such
    continued: set[int] = set()  # before such
    for number, reads in enumerate(sources):
        if weighted[number] or begun.intersection(reads):
            begun.add(number)
    for number in reversed(range(len(sources))):
        if weighted[number] or number in continued:
            continued.update(sources[number])
    return sorted(begun & continued)
