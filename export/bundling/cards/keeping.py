"""The card and the bill of materials in a bundle's folder: written, and compared with what would be written."""

from export.bundling.cards.model_card import CARD_FILE, model_card
from export.bundling.cards.sbom import SBOM_FILE, sbom
from keras_realmnet.screening.bundle.bundle import Bundle

__all__ = ["stale_cards", "write_cards"]


def write_cards(bundle: Bundle) -> list[str]:
    """Writes both, in the place of those that are there; returns their names."""
    cards = _cards(bundle)
    for name, text in cards.items():
        (bundle.directory / name).write_text(text, encoding="utf-8")
    return list(cards)


def stale_cards(bundle: Bundle) -> list[str]:
    """Those of both that are not there, or not what the bundle and the pins of the box make them."""
    return [name for name, text in _cards(bundle).items() if _kept(bundle, name) != text]


def _cards(bundle: Bundle) -> dict[str, str]:
    return {CARD_FILE: model_card(bundle), SBOM_FILE: sbom(bundle)}


def _kept(bundle: Bundle, name: str) -> str | None:
    path = bundle.directory / name
    return path.read_text(encoding="utf-8") if path.is_file() else None
