"""The service files and pages for operators: what they say is what there is, and the programs they are for accept them."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from assembler.core.findings import CODES
from assembler.errors import AssemblerError, ConfigurationError
from assembler.events import LogFile
from assembler.service.health import PARTS, Health
from assembler.service.health_server import read_address
from assembler.service.meters import METRICS, Meters

DOCS = Path(__file__).parent.parent / "docs"
UNIT = DOCS / "service" / "assembler-watch.service"
ROTATION = DOCS / "service" / "assembler-watch.logrotate"
LOGROTATE = shutil.which("logrotate", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@pytest.fixture
def unit():
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",), strict=True)
    parser.optionxform = str
    parser.read_string(UNIT.read_text().replace("\\\n", " "))
    return parser


def words(unit):
    return shlex.split(unit["Service"]["ExecStart"])


def test_the_unit_says_what_the_watcher_promises(unit):
    service = unit["Service"]
    assert (service["Type"], service["Restart"], service["StateDirectory"]) == ("notify", "on-failure", "l0-assembler")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(service["WatchdogSec"]) > 0
    assert 5 <= int(service["TimeoutStopSec"]) <= 60
    assert service["RestartPreventExitStatus"] == str(ConfigurationError.exit_code)
    assert all(c.exit_code != ConfigurationError.exit_code for c in AssemblerError.__subclasses__() if c is not ConfigurationError)


def test_the_unit_has_nothing_that_breaks_nfs_the_history_or_the_metrics(unit):
    names = {*unit["Unit"], *unit["Service"]}
    breaks = {
        "RequiresMountsFor",
        "BindsTo",
        "ReadWritePaths",
        "DynamicUser",
        "PrivateUsers",
        "PrivateNetwork",
        "IPAddressDeny",
        "ProcSubset",
    }
    assert not names & breaks
    assert unit["Service"]["ProtectSystem"] == "full"
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= set(unit["Service"]["RestrictAddressFamilies"].split())


def test_the_command_of_the_unit_listens_on_this_machine_and_keeps_the_journal_in_its_state(unit):
    command = words(unit)
    assert command[1] == "watch"
    assert read_address(command[command.index("--listen") + 1])[0] == "127.0.0.1"
    assert command[command.index("--journal") + 1].startswith(f"%S/{unit['Service']['StateDirectory']}/")
    assert "@" not in command[command.index("--history") + 1]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(unit, tmp_path):
    text = UNIT.read_text().replace(words(unit)[0], "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / UNIT.name)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_the_rotation_renames_the_log_and_compresses_it_later(unit):
    text = re.sub(r"#.*", "", ROTATION.read_text())
    path, body = re.fullmatch(r"\s*(\S+) \{\n(.+?)\n\}\s*", text, re.DOTALL).groups()
    directives = {line.split()[0] for line in body.splitlines()}
    assert {"delaycompress", "compress", "missingok", "nocreate", "rotate", "su"} <= directives
    assert not {"copytruncate", "postrotate"} & directives
    assert Path(path).parent == Path("/var/log") / unit["Service"]["LogsDirectory"]


@pytest.mark.skipif(not LOGROTATE, reason="logrotate is not installed")
def test_logrotate_rotates_a_log_that_is_being_written_and_nothing_is_lost(tmp_path):
    log = tmp_path / "watch.log"
    text = ROTATION.read_text().replace("/var/log/l0-assembler/watch.log", str(log)).replace("    su assembler assembler\n", "")
    (tmp_path / "rotation").write_text(text)
    (tmp_path / "rotation").chmod(0o644)
    tmp_path.chmod(0o755)
    stream = LogFile(log)
    for turn in range(3):
        stream.write(f"before {turn}\n")
        command = [LOGROTATE, "--force", "--state", str(tmp_path / "state"), str(tmp_path / "rotation")]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "error" not in told.stderr
        rotated = [p for p in tmp_path.glob("watch.log-*") if p.suffix != ".gz"]
        assert f"before {turn}\n" in "".join(p.read_text() for p in rotated)
        for path in rotated:  # the name of the next one has the second in it
            path.rename(tmp_path / f"kept-{turn}")
    stream.write("last\n")
    assert log.read_text() == "last\n"
    stream.close()


def test_every_metric_is_documented_as_it_is():
    rows = re.findall(r"^\| `(assembler_\w+)` \| (\w+) \|([^|]*)\| (.+?) \|$", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert [(name, kind, meaning) for name, kind, _, meaning in rows] == [(n, k, m) for n, (k, m) in METRICS.items()]
    meters = Meters()
    labels = {metric.name: {n for s in metric.samples for n in s.labels} - {"le"} for metric in meters.collect()}
    assert {name: set(re.findall(r"`(\w+)`", told)) for name, _, told, _ in rows if name in labels} == labels


def test_the_labels_and_parts_are_documented():
    text = (DOCS / "metrics.md").read_text()
    values = {
        v for m in Meters().collect() if m.name in ("assembler_l0s", "assembler_failures") for s in m.samples for v in s.labels.values()
    }
    assert [v for v in sorted(values) if f"`{v}`" not in text] == []
    assert [p for p in PARTS if f"| `{p}` |" not in text] == []
    assert [n for n in Health(1.0).verdict().body if f"| `{n}` |" not in text] == []
    assert "other" not in CODES


def test_the_examples_for_prometheus_are_yaml_about_metrics_that_there_are():
    text = (DOCS / "metrics.md").read_text()
    blocks = re.findall(r"\n\n((?: {4}[^\n]*\n)+)", text)
    scrape, alerts = (YAML(typ="safe").load(re.sub(r"(?m)^ {4}", "", b)) for b in blocks if b.lstrip().startswith(("scrape_", "groups")))
    assert read_address(scrape["scrape_configs"][0]["static_configs"][0]["targets"][0])
    samples = {"up", "assembler_l0_seconds_bucket"} | {f"{n}_total" if k == "counter" else n for n, (k, _) in METRICS.items()}
    rules = alerts["groups"][0]["rules"]
    for rule in rules:
        used = set(re.findall(r"\b(?:assembler_\w+|up)\b", rule["expr"]))
        assert used, rule
        assert used <= samples, rule
    assert len({rule["alert"] for rule in rules}) == len(rules)


def test_the_example_of_an_event_is_one():
    (line,) = re.findall(r'^ {4}(\{"timestamp.+\})$', (DOCS / "running.md").read_text(), re.MULTILINE)
    assert list(json.loads(line))[:4] == ["timestamp", "level", "event", "obsid"]
