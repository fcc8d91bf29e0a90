"""The bill of materials of a bundle on the box, in CycloneDX: models by their SHA-256, packages by their pins."""

import uuid
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import InvalidRequirement, Requirement

from keras_realmnet import __version__
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.document import BUNDLE_FILE
from keras_realmnet.screening.bundle.folder_change import sha256_of

__all__ = ["REQUIREMENTS", "SBOM_FILE", "pinned", "sbom"]

SBOM_FILE = "sbom.cdx.json"
REQUIREMENTS = Path(__file__).parents[3] / "requirements-edge.txt"
NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # of URLs, RFC 9562


def sbom(bundle: Bundle, requirements: Path = REQUIREMENTS) -> str:
    """The bill as JSON; the same bytes for the same bundle and pins: without a time, its number follows from both.

    Models that the folder may be without (`Bundle.absent`) are in it, too.

    Raises RealMNetError where the requirements are not there or do not pin exact versions.
    """
    bom = Bom(serial_number=uuid.uuid5(NAMESPACE, f"{bundle.digest} {sha256_of(_there(requirements))}"))
    bom.metadata.timestamp = None  # type: ignore[assignment]  # optional in CycloneDX, now by default here
    box = Component(name="keras-realmnet", version=__version__, type=ComponentType.APPLICATION, bom_ref="box")
    bom.metadata.component = box
    components = [*_files(bundle), *(_package(each) for each in pinned(requirements))]
    for component in components:
        bom.components.add(component)
    bom.register_dependency(box, components)
    return f"{JsonV1Dot6(bom).output_as_string(indent=1)}\n"


def pinned(requirements: Path) -> list[Requirement]:
    """The packages of a requirements file, each with one exact version; raises RealMNetError for any other."""
    found = []
    for number, line in enumerate(_there(requirements).read_text(encoding="utf-8").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise RealMNetError(f"{requirements}:{number}: no requirement ({error})") from error
        if [each.operator for each in requirement.specifier] != ["=="]:
            raise RealMNetError(f"{requirements}:{number}: an exact version was expected. Found: {text!r}")
        found.append(requirement)
    return found


def _there(requirements: Path) -> Path:
    if not requirements.is_file():
        raise RealMNetError(f"{requirements}: no such file; expected the pins of the box, which a checkout has")
    return requirements


def _package(requirement: Requirement) -> Component:
    [pin] = requirement.specifier
    url = PackageURL("pypi", name=requirement.name, version=pin.version)
    marker = [Property(name="realmnet:only where", value=str(requirement.marker))] if requirement.marker else []
    return Component(name=requirement.name, version=pin.version, purl=url, bom_ref=str(url), properties=marker)


def _files(bundle: Bundle) -> Iterator[Component]:
    """The files of a bundle: its models, and what it describes and checks them with."""
    model = ComponentType.MACHINE_LEARNING_MODEL
    for name, artifact in bundle.artifacts.items():
        facts = {"engine": artifact.engine, "precision": artifact.precision, "bytes": str(artifact.bytes)}
        if name == bundle.default_artifact:
            facts["default"] = "true"
        yield _file(bundle, artifact.file, artifact.sha256, model, facts)
    if bundle.source_file is not None and bundle.source_sha256 is not None:
        yield _file(bundle, bundle.source_file, bundle.source_sha256, model, {"engine": "keras"})
    for file in (BUNDLE_FILE, bundle.golden_file):
        yield _file(bundle, file, sha256_of(bundle.directory / file), ComponentType.DATA, {})


def _file(bundle: Bundle, file: str, sha256: str, kind: ComponentType, facts: dict[str, str]) -> Component:
    return Component(
        name=f"{bundle.name}/{file}",
        version=bundle.version,
        type=kind,
        bom_ref=f"{bundle.name}/{file}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        properties=[Property(name=f"realmnet:{name}", value=value) for name, value in facts.items()],
    )
