"""`init` as people run it: real servers, a plan that runs as it is, and every wrong option."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.simulator.process import ACCOUNT, PASSWORD_VARIABLE
from tests.processes import PASSWORD, Place, Servers

pytestmark = pytest.mark.process


def init(
    place: Place, servers: Servers | list[str], *more: str | Path, password: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Call `init` for all servers, which are trusted by their fingerprint if none is named."""
    urls = servers if isinstance(servers, list) else list(servers.simulation.urls.values())
    options: list[str | Path] = [*more]
    if isinstance(servers, Servers) and not {"--ca-file", "--insecure"} & {*map(str, more)}:
        options += ["--fingerprint", servers.simulation.certificate.fingerprint_sha256]
    reference = password or f"env:{PASSWORD_VARIABLE}"
    done = place.call("init", *urls, "--username", ACCOUNT, "--password-from", reference, *options)
    assert PASSWORD not in done.stdout + done.stderr
    return done


def test_a_first_plan_passes_and_runs_as_it_is(quick: Servers, place: Place) -> None:
    """`init`, `validate`, `check` and `run` one after another; then `init` makes the same bytes."""
    plan, again = place.directory / "plan.yaml", place.directory / "again.yaml"

    done = init(place, quick, "-o", plan)
    same = init(place, quick, "-o", again)
    codes = [
        place.call("validate", plan).returncode,
        place.call("check", plan, "--state", place.directory / "state").returncode,
        place.call("run", plan, "--yes").returncode,
    ]

    assert (done.returncode, same.returncode, codes) == (0, 0, [0, 0, 0]), done.stderr
    assert plan.read_bytes() == again.read_bytes()
    assert PASSWORD not in plan.read_text()
    values = yaml.safe_load(plan.read_text())
    counted = sum(wave["targets"][0]["expect"]["min"] for wave in values["waves"])
    assert counted == len(place.values()["targets"]) > 0
    assert not [path for path in place.directory.iterdir() if path.name.endswith(".new")]
    assert not quick.truth().still_open()


def test_a_plan_is_replaced_only_with_force(quick: Servers, place: Place) -> None:
    """Without it nobody is asked for anything; with it the name and its rights stay the user's."""
    plan = place.directory / "plan.yaml"
    plan.write_text("mine")

    refused = init(place, quick, "-o", plan)

    assert (refused.returncode, plan.read_text()) == (2, "mine")
    assert "--force replaces it" in refused.stderr
    assert quick.truth().logons == 0
    assert init(place, quick, "-o", plan, "--force").returncode == 0
    assert stat.S_ISREG(plan.lstat().st_mode)
    assert place.call("validate", plan).returncode == 0


def test_files_are_named_from_the_plans_directory(quick: Servers, place: Place) -> None:
    """A CA file and a secret below it stay with the plan when its directory is moved."""
    directory = place.directory / "here"
    directory.mkdir()
    (directory / "ca.pem").write_bytes(quick.simulation.certificate.certificate.read_bytes())
    secret = directory / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)

    done = init(
        *(place, quick, "--ca-file", directory / "ca.pem", "-o", directory / "plan.yaml"),
        password=f"file:{secret}",
    )

    assert done.returncode == 0, done.stderr
    for server in yaml.safe_load((directory / "plan.yaml").read_text())["servers"].values():
        assert server["tls"] == {"ca_file": "ca.pem"}
        assert server["password"] == {"file": "password"}
    moved = directory.rename(place.directory / "there") / "plan.yaml"
    assert place.call("check", moved, "--state", place.directory / "state").returncode == 0


def test_a_dash_prints_the_plan_and_nothing_else(quick: Servers, place: Place) -> None:
    """What there is to say goes to stderr."""
    done = init(place, quick, "--insecure", "--match", "*sql*", "-o", "-")

    values = yaml.safe_load(done.stdout)
    assert done.returncode == 0
    assert {"insecure": True} in [server["tls"] for server in values["servers"].values()]
    assert all("sql" in target["vm"] for wave in values["waves"] for target in wave["targets"])
    assert "next: " in done.stderr


def test_a_name_that_no_server_lists_is_refused(quick: Servers, place: Place) -> None:
    """With the nearest name; nothing is written."""
    plan = place.directory / "plan.yaml"

    done = init(place, quick, "--job", "Tier 1 Replicaton vbr-hq-01", "--match", "zzz*", "-o", plan)

    assert done.returncode == 2
    assert "did you mean 'Tier 1 Replication vbr-hq-01'?" in done.stderr
    assert "--match 'zzz*' fits no name: machines: " in done.stderr
    assert not plan.exists()


def test_a_server_that_cannot_be_asked_is_named_and_nothing_is_written(
    quick: Servers, place: Place
) -> None:
    """A plan without one of the servers would be taken for whole."""
    plan = place.directory / "plan.yaml"

    untrusted = init(place, [*quick.simulation.urls.values()], "-o", plan)
    wrong = init(place, quick, "-o", plan, password="env:HOME")

    for done in (untrusted, wrong):
        assert done.returncode == 4
        assert done.stderr.count("127.0.0.1-") >= 2
        assert not plan.exists()
    assert "--ca-file or --fingerprint" in untrusted.stderr


@pytest.mark.parametrize(
    ("urls", "options", "words"),
    [
        (["http://em:9398"], {}, "URL 1: plain http would send the password"),
        (["https://em:9398", "https://em"], {}, "URL 2: name the port"),
        (["https://em:9398", "https://em:9398/"], {}, "is URL 1 too: keep one"),
        ([], {}, "Missing argument 'URLS...'"),
        (["https://em:9398"], {"--username": " a"}, "--username: "),
        (["https://em:9398"], {"--password-from": PASSWORD}, "never the password itself"),
        (["https://em:9398"], {"--password-from": "env:1X"}, "never the password itself"),
        (["https://em:9398"], {"--password-from": f"env:{PASSWORD}"}, "never the password itself"),
        (["https://em:9398"], {"--password-from": "keyring:x"}, "keyring:SERVICE/USER"),
        (["https://em:9398"], {"--fingerprint": "ab"}, "--fingerprint: 'ab' is no SHA-256"),
        (["https://em:9398"], {"--insecure": "", "--ca-file": "x"}, "exclude each other: keep one"),
        (["https://em:9398"], {"--source": "tape"}, "'tape' is not one of"),
        (["https://em:9398"], {"-o": "no/such/place.yaml"}, "there is no directory no/such"),
    ],
)
def test_a_wrong_option_is_refused_with_the_right_form(
    urls: list[str], options: dict[str, str], words: str, place: Place
) -> None:
    """Exit code 2 before anything is asked, and never a word of what may be the password."""
    plan = str(place.directory / "plan.yaml")
    given = {"--username": "u", "--password-from": "env:P", "-o": plan, **options}
    argv = [part for pair in given.items() for part in pair if part]

    done = place.call("init", *urls, *argv)

    assert done.returncode == 2
    assert words in done.stderr
    assert PASSWORD not in done.stderr
    assert not (place.directory / "plan.yaml").exists()
