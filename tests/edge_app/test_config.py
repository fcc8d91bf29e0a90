"""Settings: where they come from, what is refused and how it is said; the example shows them all."""

import json
from pathlib import Path

import pytest
import tomllib
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edge_app.__main__ import main
from edge_app.config import DEFAULT_BUNDLE, Config, load_config
from keras_realmnet.errors import RealMNetError

EXAMPLE = Path(__file__).resolve().parents[2] / "edge_app" / "deploy" / "box.toml"

DESTINATION = '[[destination]]\nname = "pacs"\nkind = "dicom"\nhost = "pacs"\nport = 104\nae_title = "PACS"\n'


@pytest.fixture
def write(tmp_path):
    """write(text) → a file with these settings and a data_dir."""

    def write(text: str) -> Path:
        path = tmp_path / "box.toml"
        path.write_text('data_dir = "data"\n' + text, encoding="utf-8")
        return path

    return write


def test_environment_over_file_over_default(write, monkeypatch):
    path = write("[dicom]\nport = 104\nae_title = 'BOX'\n[screening]\nmemory_mb = 2000\n")
    monkeypatch.setenv("REALMNET_BOX__DICOM__PORT", "105")
    monkeypatch.setenv("REALMNET_BOX__DICOM__ALLOWED_HOSTS", '["10.1.0.0/16"]')
    config = load_config(path)
    assert (config.dicom.port, config.dicom.ae_title, config.dicom.max_associations) == (105, "BOX", 10)
    assert config.dicom.allowed_hosts == ("10.1.0.0/16",)
    assert config.screening.memory_mb == 2000
    assert config.web.host == config.dicom.host == "127.0.0.1"


def test_the_environment_alone_is_enough(monkeypatch, tmp_path):
    monkeypatch.setenv("REALMNET_BOX__DATA_DIR", str(tmp_path))
    monkeypatch.setenv("REALMNET_BOX__FOLDER", json.dumps([{"name": "in", "path": "/share"}]))
    config = load_config()
    assert config.data_dir == tmp_path
    assert config.folder[0].path == Path("/share")


def test_paths_are_relative_to_the_file(write, tmp_path):
    config = load_config(write('[[folder]]\nname = "in"\npath = "../share"\n'))
    assert config.data_dir == tmp_path / "data"
    assert config.folder[0].path == tmp_path / "../share"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[dicom]\nport = 0\n", "dicom.port = 0: input should be greater than or equal to 1"),
        ("[dicom]\nport = 'x'\n", "dicom.port = 'x': input should be a valid integer"),
        ("[dicom]\nprot = 104\n", "dicom.prot = 104: unknown setting"),
        ("colour = 'red'\n", "colour = 'red': unknown setting"),
        ("[dicom]\nae_title = '                '\n", "dicom.ae_title = "),
        ("[dicom]\nallowed_hosts = ['scanner']\n", "dicom: expected allowed_hosts to be IP addresses or networks"),
        ("[dicom]\ntls_certificate = 'box.pem'\n", "dicom: expected tls_certificate and tls_key together"),
        ("[dicom]\ntls_ca = 'ca.pem'\n", "dicom: expected tls_certificate and tls_key where tls_ca is set"),
        ("[[folder]]\nname = 'in'\n", "folder.0.path: is missing"),
        (
            "[[folder]]\nname = 'in'\npath = 'x'\nfile_name_pattern = '('\n",
            "file_name_pattern = '(': expected a regular",
        ),
        (
            "[[folder]]\nname = 'in'\npath = 'x'\n[[folder]]\nname = 'in'\npath = 'y'\n",
            "every [[folder]] to have",
        ),
        ("[[destination]]\nname = 'pacs'\nkind = 'dicom'\nresults = ['sr']\n", "expected host, port, ae_title"),
        (DESTINATION + "results = ['json']\n", "expected results of a dicom destination among sr, sc"),
        (DESTINATION, "at least one kind of results"),
        (DESTINATION + "results = ['sr']\noutcomes = ['bad']\n", "destination.0.outcomes.0 = 'bad'"),
        ("[web]\nhost = '0.0.0.0'\n", "web: expected tls_certificate and tls_key (or behind_tls_proxy)"),
        ("[web]\nallowed_hosts = ['*']\n", "web.allowed_hosts.0 = '*': expected a name or address"),
        ("[web]\nallowed_hosts = ['*.example']\n", "web.allowed_hosts.0 = '*.example': expected a name or address"),
        ("[web]\nallowed_hosts = ['']\n", "web.allowed_hosts.0 = '': expected a name or address"),
        ("[web]\nallowed_hosts = ['box:8080']\n", "web.allowed_hosts.0 = 'box:8080': expected a name or address"),
        ("[web]\nhost = ''\n", "web.host = ''"),
        ("[dicom]\nhost = ''\n", "dicom.host = ''"),
        ("[dicom]\nallowed_hosts = ['*']\n", "dicom: expected allowed_hosts to be IP addresses or networks, not '*'"),
        ("[dicom]\nallowed_hosts = ['']\n", "dicom: expected allowed_hosts to be IP addresses or networks, not ''"),
        ("[dicom]\nallowed_ae_titles = ['*']\n", "dicom.allowed_ae_titles.0 = '*': expected an AE title"),
        ("[dicom]\nallowed_ae_titles = ['']\n", "dicom.allowed_ae_titles.0 = ''"),
        ("[dicom]\nmax_object_mb = -1\n", "dicom.max_object_mb = -1"),
        ("[dicom]\nnetwork_timeout_seconds = 0\n", "dicom.network_timeout_seconds = 0"),
        ("[dicom]\ndimse_timeout_seconds = inf\n", "dicom.dimse_timeout_seconds = inf"),
        ("[screening]\ntimeout_seconds = nan\n", "screening.timeout_seconds = nan"),
        ("[screening]\nmemory_mb = 9999999999\n", "screening.memory_mb = 9999999999"),
        ("[disk]\nfree_mb = -1\n", "disk.free_mb = -1"),
        ("[web]\nsession_minutes = 0\n", "web.session_minutes = 0"),
        ("[retention]\ndays = 0\n", "retention.days = 0"),
        (
            "[[folder]]\nname = 'all'\npath = '.'\n",
            "data_dir and destinations outside of the watched folder all, not",
        ),
        (
            "[[folder]]\nname = 'in'\npath = 'in'\n[[destination]]\nname = 'out'\nkind = 'folder'\n"
            "path = 'x/../in/out'\nresults = ['sr']\n",
            "data_dir and destinations outside of the watched folder in, not",
        ),
        ("dicom = 3\n", "dicom = 3: input should be"),
        ("[dicom\n", "cannot be read as TOML"),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_what_is_expected(write, capsys, text, expected):
    path = write(text)
    with pytest.raises(RealMNetError) as refused:
        load_config(path)
    assert expected in str(refused.value)
    assert str(refused.value).startswith(str(path))
    assert main(["serve", "--config", str(path)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert expected in output.err


def test_a_bad_environment_is_refused(write, monkeypatch):
    monkeypatch.setenv("REALMNET_BOX__DICM__PORT", "104")
    with pytest.raises(RealMNetError, match="REALMNET_BOX__DICM__PORT: unknown setting"):
        load_config(write(""))
    monkeypatch.delenv("REALMNET_BOX__DICM__PORT")
    monkeypatch.setenv("REALMNET_BOX__DICOM__PRT", "104")
    with pytest.raises(RealMNetError, match="unknown setting"):
        load_config(write(""))
    monkeypatch.delenv("REALMNET_BOX__DICOM__PRT")
    monkeypatch.setenv("REALMNET_BOX__DICOM__ALLOWED_HOSTS", "10.1.0.0")
    with pytest.raises(RealMNetError, match="JSON"):
        load_config(write(""))


def test_no_data_dir_is_told(monkeypatch):
    with pytest.raises(RealMNetError, match="environment: data_dir: is missing"):
        load_config()


def test_a_missing_file_is_a_usage_error(tmp_path, capsys):
    assert main(["serve", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err


def settings_of(model: type[BaseModel], prefix: str = "") -> dict[str, object]:
    """{"dicom.port": default} of all settings below a model, the entries of lists included."""
    found = {}
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        found |= {f"{prefix}{name}": field.default} if section is None else settings_of(section, f"{prefix}{name}.")
    return found


EXAMPLES = {"artifact", "threads", "bundle", "retention.days"}  # where the example is not the default


def test_the_example_shows_every_setting_with_its_default(tmp_path):
    text = EXAMPLE.read_text(encoding="utf-8")
    (tmp_path / "box.toml").write_text(text, encoding="utf-8")
    load_config(tmp_path / "box.toml")  # as it stands
    section, shown = "", {}
    for line in text.splitlines():
        line = line.removeprefix("# ")
        key, equals, value = line.partition(" = ")
        if line.startswith("["):
            section = line.partition("  #")[0].strip("[]") + "."
        elif equals and key.isidentifier():
            shown[section + key] = tomllib.loads(f"x = {value}")["x"]
    defaults = settings_of(Config)
    assert set(shown) == set(defaults)
    for key, value in shown.items():
        if defaults[key] not in (None, PydanticUndefined) and key not in EXAMPLES and key != "destination.results":
            assert value == (list(defaults[key]) if isinstance(defaults[key], tuple) else defaults[key]), key


def test_a_worker_gets_the_same_settings(write):
    config = load_config(write(DESTINATION + "results = ['sr']\n"))
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_bundles_are_folders_or_tables_in_the_place_of_one(write):
    config = load_config(write("bundles = ['one', {path = '/two', artifact = 'int8'}]\n"))
    base = config.installed[0].path.parent
    assert [(each.path, each.artifact) for each in config.installed] == [
        (base / "one", None),
        (Path("/two"), "int8"),
    ]
    alone = load_config(write("bundle = 'one'\nartifact = 'int8'\n"))
    assert [(each.path.name, each.artifact) for each in alone.installed] == [("one", "int8")]
    assert [each.path for each in load_config(write("")).installed] == [DEFAULT_BUNDLE]
    for text, expected in (
        ("bundle = 'one'\nbundles = ['two']\n", "bundles, or bundle and artifact, not both"),
        ("artifact = 'int8'\nbundles = ['two']\n", "not both"),
        ("bundles = ['two', './two']\n", "every bundle once"),
        ("bundles = [{path = 'two', name = 'x'}]\n", "name = 'x'"),
    ):
        with pytest.raises(RealMNetError, match=expected):
            load_config(write(text))
