"""The box's settings: environment over file over default, checked as a whole before anything starts.

The file is TOML; `edge_app/deploy/box.toml` shows every setting with its default. An environment variable is named
REALMNET_BOX__KEY or REALMNET_BOX__SECTION__KEY (lists as JSON). Relative paths are relative to the file's folder.
"""

import ipaddress
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import DEFAULT_FILE_NAME_PATTERN
from keras_realmnet.tasks.rules import OUTCOMES, Outcome, acted_on_as

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Config", "Destination", "Dicom", "Folder", "InstalledBundle", "load_config"]

ENVIRONMENT = "REALMNET_BOX__"
BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
# With what `screen` screens where no bundle is named.
SHIPPED_BUNDLES = tuple(BUNDLES / name for name in ("realmnet-demo", "palm-lite", "fundus-structures", "lesions-lite"))
DEFAULT_BUNDLE = SHIPPED_BUNDLES[0]  # of a box whose settings name none

ResultKind = Literal["sr", "sc", "seg", "json", "csv", "fhir"]
DICOM_RESULTS = ("sr", "sc", "seg")


def _absolute(path: Path, info: ValidationInfo) -> Path:
    base: Path = (info.context or {}).get("base", Path.cwd())
    return base / path.expanduser()


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"expected a regular expression ({error})") from error
    return text


def _host_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]", name):
        raise ValueError("expected a name or address as in an address bar, without port or wildcard")
    return name


def _no_wildcard(title: str) -> str:
    if title.strip() == "*":
        raise ValueError("expected an AE title; an empty list lets any send")
    return title


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


FilePath = Annotated[Path, AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Host = Annotated[str, Field(min_length=1)]  # "" would be every address of this machine
AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[^\\\x00-\x1f]*[^\\\x00-\x20][^\\\x00-\x1f]*$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]  # goes into logs and metrics


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class InstalledBundle(Section):
    """A folder with a model and all that belongs to it. `artifact`: which of its model files; None: its own choice."""

    path: FilePath
    artifact: str | None = None


def _as_table(entry: object) -> object:
    return {"path": entry} if isinstance(entry, (str, Path)) else entry


class _TLS(Section):
    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None

    @model_validator(mode="after")
    def _certificate_and_key(self) -> "_TLS":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key together, or neither")
        return self


class Dicom(_TLS):
    """What may send images, and how. `tls_ca` set: only senders with a certificate of this authority are heard."""

    tls_ca: FilePath | None = None
    enabled: bool = True
    host: Host = "127.0.0.1"
    port: Port = 11112
    ae_title: AETitle = "REALMNET"
    require_called_ae_title: bool = True
    allowed_ae_titles: tuple[Annotated[AETitle, AfterValidator(_no_wildcard)], ...] = ()  # empty: any
    allowed_hosts: tuple[str, ...] = ()  # addresses or networks ("10.1.0.0/16"); empty: any
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 10
    max_object_mb: Annotated[int, Field(ge=1, le=2047)] = 256
    accept_other_objects: bool = True  # storage classes that are no picture: noted and dropped; else refused
    acse_timeout_seconds: Seconds = 30
    dimse_timeout_seconds: Seconds = 60
    network_timeout_seconds: Seconds = 60

    @model_validator(mode="after")
    def _networks(self) -> "Dicom":
        for host in self.allowed_hosts:
            try:
                ipaddress.ip_network(host, strict=False)
            except ValueError:
                raise ValueError(f"allowed_hosts to be IP addresses or networks, not {host!r}") from None
        if self.tls_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_certificate and tls_key where tls_ca is set")
        return self


class Folder(Section):
    """A folder that is watched; its files are read, never changed."""

    name: Name
    path: FilePath
    rescan_seconds: Seconds = 10
    stable_seconds: Seconds = 5
    file_name_pattern: Annotated[str, AfterValidator(_pattern)] = DEFAULT_FILE_NAME_PATTERN


class Screening(Section):
    """Limits of the screening process, for one image."""

    timeout_seconds: Seconds = 120
    memory_mb: Annotated[int, Field(ge=256, le=1 << 20)] = 3000


class Destination(_TLS):
    """Where results go. kind "dicom": C-STORE to host, port, ae_title; kind "folder": files into path."""

    tls_ca: FilePath | None = None
    name: Name
    kind: Literal["dicom", "folder"]
    host: Host | None = None
    port: Port | None = None
    ae_title: AETitle | None = None
    calling_ae_title: AETitle = "REALMNET"
    path: FilePath | None = None
    results: tuple[ResultKind, ...] = ()
    outcomes: tuple[Outcome, ...] = OUTCOMES
    timeout_seconds: Seconds = 60

    def takes(self, outcome: Outcome) -> bool:
        """Whether results of this outcome go there; what is uncertain goes wherever referrals do, too."""
        return outcome in self.outcomes or acted_on_as(outcome) in self.outcomes

    @model_validator(mode="after")
    def _complete(self) -> "Destination":
        needed = ("host", "port", "ae_title") if self.kind == "dicom" else ("path",)
        missing = [key for key in needed if getattr(self, key) is None]
        if missing:
            raise ValueError(f"{', '.join(missing)} for a destination of kind {self.kind!r}")
        if self.kind == "dicom" and not set(self.results) <= set(DICOM_RESULTS):
            raise ValueError(f"results of a dicom destination among {', '.join(DICOM_RESULTS)}")
        if not self.results:
            raise ValueError("at least one kind of results")
        return self


class Web(_TLS):
    """The web page. Beyond this machine it needs TLS: its own, or that of a proxy in front of it."""

    enabled: bool = True
    host: Host = "127.0.0.1"
    port: Port = 8080
    allowed_hosts: tuple[Annotated[str, AfterValidator(_host_name)], ...] = ("localhost", "127.0.0.1")
    session_minutes: Annotated[int, Field(ge=1, le=1440)] = 30
    behind_tls_proxy: bool = False

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the page; beyond it a login is needed."""
        return _is_local(self.host) and not self.behind_tls_proxy

    @model_validator(mode="after")
    def _encrypted(self) -> "Web":
        if not _is_local(self.host) and self.tls_certificate is None and not self.behind_tls_proxy:
            raise ValueError("tls_certificate and tls_key (or behind_tls_proxy) where host is not this machine alone")
        return self


class Disk(Section):
    free_mb: Annotated[int, Field(ge=0)] = 2000  # with less than this nothing more is taken in


class Retention(Section):
    days: Annotated[int | None, Field(ge=1)] = None  # results older than this are removed once delivered; None: kept


class Delivery(Section):
    """Attempts at a destination: the wait doubles from the first to the longest, then the result is put aside."""

    first_retry_seconds: Seconds = 5
    max_retry_seconds: Seconds = 900
    attempts: Annotated[int, Field(ge=1)] = 200
    alarm_seconds: Seconds = 1800  # a result that has waited so long is a problem to tell


class Config(Section):
    """All settings of the box. `data_dir` holds everything the box keeps."""

    data_dir: FilePath
    bundle: FilePath | None = None
    artifact: str | None = None
    bundles: tuple[Annotated[InstalledBundle, BeforeValidator(_as_table)], ...] = ()
    threads: Annotated[int | None, Field(ge=1)] = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    dicom: Dicom = Dicom()
    folder: tuple[Folder, ...] = ()
    screening: Screening = Screening()
    destination: tuple[Destination, ...] = ()
    web: Web = Web()
    disk: Disk = Disk()
    retention: Retention = Retention()
    delivery: Delivery = Delivery()

    @property
    def installed(self) -> tuple[InstalledBundle, ...]:
        """The bundles that screen, in order: at least one."""
        return self.bundles or (InstalledBundle(path=self.bundle or DEFAULT_BUNDLE, artifact=self.artifact),)

    @model_validator(mode="after")
    def _one_way_to_name_bundles(self) -> "Config":
        if self.bundles and (self.bundle is not None or self.artifact is not None):
            raise ValueError("bundles, or bundle and artifact, not both")
        paths = [os.path.normpath(each.path) for each in self.bundles]
        if len(set(paths)) < len(paths):
            raise ValueError(f"every bundle once, not {', '.join(paths)}")
        return self

    @model_validator(mode="after")
    def _unique_names(self) -> "Config":
        for key in ("folder", "destination"):
            names = [entry.name for entry in getattr(self, key)]
            if len(set(names)) < len(names):
                raise ValueError(f"every [[{key}]] to have a name of its own, not {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _outside_of_watched_folders(self) -> "Config":
        """The box must not screen what it writes itself: that would never end."""
        written = (self.data_dir, *(destination.path for destination in self.destination if destination.path))
        for folder in self.folder:
            for path in written:
                if Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder.path)):
                    raise ValueError(
                        f"data_dir and destinations outside of the watched folder {folder.name}, not {path}"
                    )
        return self


def load_config(file: Path | None = None) -> Config:
    """The settings of a TOML file (None: of the environment alone) and of the environment, which comes first.

    Raises:
        RealMNetError: the file cannot be read, or a setting is unknown, missing or wrong; names the key, the value and
            what was expected.
    """
    source = "environment" if file is None else str(file)
    try:
        values = {} if file is None else tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RealMNetError(f"{source}: cannot be read as TOML ({error})") from error
    base = Path.cwd() if file is None else file.absolute().parent
    try:
        return Config.model_validate(_merged(values, _environment()), context={"base": base})
    except ValidationError as error:
        raise RealMNetError(f"{source}: {'; '.join(map(_message, error.errors()))}") from error


def _environment() -> dict[str, Any]:
    """What the environment sets, as a nested mapping."""
    for name in os.environ:
        key = name.removeprefix(ENVIRONMENT).partition("__")[0].lower()
        if name.startswith(ENVIRONMENT) and key not in Config.model_fields:
            raise RealMNetError(f"{name}: unknown setting; expected one of {', '.join(Config.model_fields)}")
    source: Any = EnvSettingsSource  # typed for BaseSettings only, whose other sources are not wanted here
    try:
        return dict(source(Config, env_prefix=ENVIRONMENT, env_nested_delimiter="__")())
    except SettingsError as error:
        raise RealMNetError(f"environment: {error}; lists are expected as JSON") from error


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """`low` with the values of `high` over it, section by section."""
    both = {key: _merged(low[key], value) for key, value in high.items() if isinstance(low.get(key), dict)}
    return {**low, **high, **both}


def _message(error: ErrorDetails) -> str:
    """`dicom.port = 0: input should be greater than or equal to 1`."""
    key = ".".join(str(part) for part in error["loc"]) or "settings"
    if error["type"] == "missing":
        return f"{key}: is missing"
    if error["type"] == "extra_forbidden":
        return f"{key} = {error['input']!r}: unknown setting"
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], (dict, Section)):  # the parts of a section do not fit together
        return f"{key}: expected {message}"
    return f"{key} = {error['input']!r}: {message[0].lower()}{message[1:]}"
