"""The recipes for clusters, without one: they parse, our command line takes their commands, the right programs run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harkback.commands import COMMANDS, SETTINGS
from harkback.flags import parsed, with_settings

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
NODES = ("node1", "node2", "node3")
PORT = 12000 + 4711 % 1000 * 20

#: Stand-ins. Each notes what it was asked, and where: by the node that srun was told.
SAY = 'printf "%s\\n" "${NODE:-batch} $(basename "$0") $*" >> "$CALLS"\n'
FAKES = {
    "scontrol": SAY + '[ "$1 $2" = "show hostnames" ] && [ "$3" = "node[1-3]" ] && printf "%s\\n" node1 node2 node3\n',
    "srun": SAY
    + """
while [ $# -gt 0 ]; do
    case $1 in
        --nodelist=*) NODE=${1#*=};;
        --*) ;;
        *) break;;
    esac
    shift
done
export NODE=${NODE:-all}
exec "$@"
""",
    "hostname": 'echo "10.0.0.1 fd00::1"\n',
    "ray": """
if [ "$1" = start ]; then trap 'printf "%s\\n" "$NODE ended" >> "$CALLS"; exit 1' TERM; fi
"""
    + SAY
    + """
if [ "$1" = status ]; then [ -e "$UP" ]; exit; fi
printf "%s\\n" "${#RAY_AUTH_TOKEN} $RAY_AUTH_MODE $RAY_USAGE_STATS_ENABLED" >> "$CALLS.env"
case "$*" in *--head*) touch "$UP";; esac
while :; do sleep 0.05; done
""",
    "harkback": """
trap 'printf "%s\\n" "harkback stopped" >> "$CALLS"; exit 143' TERM
until [ "$(grep -c "^node. ray start" "$CALLS")" = 3 ]; do sleep 0.05; done
"""
    + SAY
    + """
printf "%s\\n" "$RAY_ADDRESS" >> "$CALLS.env"
for _ in $(seq ${LASTS:-1}); do sleep 0.05; done
[ "$1" = "${FAILS:-}" ] && exit 7
exit 0
""",
    "torchrun": SAY + "exit ${STATUS:-0}\n",
}


class Job:
    """A Slurm script among stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        (folder / "bin").mkdir()
        for name, text in FAKES.items():
            (folder / "bin" / name).write_text(f"#!/bin/bash\n{text}")
            (folder / "bin" / name).chmod(0o755)
        (folder / "bin" / "python").symlink_to(sys.executable)
        (folder / "venv" / "bin").mkdir(parents=True)
        (folder / "venv" / "bin" / "activate").write_text("")

    def start(self, script: str, **env: str) -> subprocess.Popen[str]:
        told = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "UP": str(self.folder / "up"),
            "PAUSE": "0.05",
            "SHARED": str(self.folder),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "node[1-3]",
            "SLURM_NNODES": "3",
            "SLURM_CPUS_PER_TASK": "16",
        }
        argv, kept = ["bash", str(CLUSTER / script)], {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        return subprocess.Popen(argv, env={**kept, **told, **env}, stderr=subprocess.PIPE, text=True)

    def run(self, script: str, **env: str) -> tuple[int, list[str]]:
        process = self.start(script, **env)
        _, told = process.communicate(timeout=60)
        assert process.returncode is not None, told
        return process.returncode, self.lines()

    def lines(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def job(tmp_path: Path) -> Job:
    if shutil.which("bash") is None:
        pytest.skip("THE RECIPES ARE NOT RUN: there is no bash here")
    return Job(tmp_path)


def at(lines: list[str], start: str) -> int:
    """Where the only line that begins so stands."""
    (found,) = (i for i, line in enumerate(lines) if line.startswith(start))
    return found


# ---- Slurm ----


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    checker = shutil.which("shellcheck")
    if checker is not None:
        done = subprocess.run([checker, str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_there_are_two_scripts_and_slurm_reads_their_options() -> None:
    assert [path.name for path in SCRIPTS] == ["slurm-ray.sh", "slurm-torchrun.sh"]
    for path in SCRIPTS:
        text = path.read_text()
        commands = text.index("set -euo pipefail")
        assert text.rindex("#SBATCH") < commands  # Slurm reads no further than the first command.
        assert "CHANGE" in text


def test_ray_is_started_on_every_node_before_the_commands_and_ended_after_them(job: Job) -> None:
    status, lines = job.run("slurm-ray.sh")
    assert status == 0
    started = [at(lines, f"{node} ray start") for node in NODES]
    extract, bench = at(lines, "batch harkback extract"), at(lines, "batch harkback bench")
    ended = {node: at(lines, f"{node} ended") for node in NODES}
    answered = max(i for i, line in enumerate(lines) if line.startswith("batch ray status"))
    assert started[0] < answered < min(started[1:])
    assert max(started) < extract < bench < min(ended.values())
    assert ended["node1"] == max(ended.values()) == len(lines) - 1
    assert "--on ray" in lines[extract] and "--on ray" in lines[bench]


def test_the_head_and_its_workers_know_of_one_another_and_of_the_nodes_cores(job: Job) -> None:
    status, lines = job.run("slurm-ray.sh", SLURM_GPUS_ON_NODE="2")
    assert status == 0
    head, *workers = (lines[at(lines, f"{node} ray start")] for node in NODES)
    assert "--head" in head and "--node-ip-address=10.0.0.1" in head and f" --port={PORT} " in head
    assert "--include-dashboard=false" in head and "--block" in head
    for worker in workers:
        assert f"--address=10.0.0.1:{PORT}" in worker and "--head" not in worker and "--block" in worker
    for line in (head, *workers):
        assert "--num-cpus=16 --num-gpus=2" in line
        ports = [int(port) for port in re.findall(r"-port=(\d+)", line) if port != "0"]
        assert len(set(ports)) == len(ports) and all(PORT <= port < PORT + 20 for port in ports)
    told = job.calls.with_name("calls.env").read_text().splitlines()
    assert told.count("64 token 0") == 3 and told.count(f"10.0.0.1:{PORT}") == 2


def test_without_gpus_none_are_named(job: Job) -> None:
    _, lines = job.run("slurm-ray.sh")
    assert sum("--num-gpus=0" in line and " ray start" in line and "srun" not in line for line in lines) == 3


@pytest.mark.parametrize(("fails", "others"), [("extract", 0), ("bench", 1)])
def test_a_command_that_fails_gives_the_job_its_status_and_ray_is_ended(job: Job, fails: str, others: int) -> None:
    status, lines = job.run("slurm-ray.sh", FAILS=fails)
    assert status == 7
    assert sum(line.startswith("batch harkback") for line in lines) == 1 + others
    assert sorted(line for line in lines if line.endswith("ended")) == [f"{node} ended" for node in NODES]
    assert lines[-1] == "node1 ended"


def test_a_job_whose_time_is_up_stops_its_command_and_ends_ray(job: Job) -> None:
    process = job.start("slurm-ray.sh", LASTS="1000")
    until = time.monotonic() + 30
    while not any(line.startswith("batch harkback extract") for line in job.lines()) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    lines = job.lines()
    assert process.returncode == 143
    assert at(lines, "harkback stopped") < at(lines, "node2 ended") < at(lines, "node1 ended") == len(lines) - 1
    assert not any("harkback bench" in line for line in lines)


def test_a_head_that_does_not_answer_is_told_and_ended(job: Job) -> None:
    ray = job.folder / "bin" / "ray"
    up = 'then [ -e "$UP" ]; exit; fi'
    assert up in ray.read_text()
    ray.write_text(ray.read_text().replace(up, 'then until [ -e "$UP" ]; do sleep 0.02; done; exit 1; fi'))
    process = job.start("slurm-ray.sh", PAUSE="0")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1 and "does not answer" in told
    assert job.lines()[-1] == "node1 ended"
    assert not any("harkback" in line for line in job.lines())


def test_torchrun_is_started_once_a_node_and_meets_at_the_first(job: Job) -> None:
    status, lines = job.run("slurm-torchrun.sh", SLURM_GPUS_ON_NODE="4")
    assert status == 0
    (line,) = (line for line in lines if line.startswith("all torchrun"))
    assert "--nnodes=3 --nproc-per-node=4 --rdzv-id=4711" in line
    assert f"--rdzv-endpoint=node1:{PORT} -m harkback bench" in line and line.endswith("--train-on cuda")
    (srun,) = (line for line in lines if line.startswith("batch srun"))
    assert "--nodes=3 --ntasks-per-node=1 --cpus-per-task=16" in srun


def test_torchrun_without_a_gpu_trains_on_cores_and_its_status_is_the_jobs(job: Job) -> None:
    status, lines = job.run("slurm-torchrun.sh", STATUS="3")
    assert status == 3
    (line,) = (line for line in lines if line.startswith("all torchrun"))
    assert "--nproc-per-node=1" in line and line.endswith("--train-on cpu")


# ---- our command line ----


def commands() -> list[tuple[str, list[str]]]:
    """(file, words) of every harkback command in the recipes."""
    found = []
    for path in (*SCRIPTS, CLUSTER / "README.md"):
        text = path.read_text().replace("\\\n", " ")
        for line in text.splitlines():
            for told in re.findall(r"(?:run harkback|-m harkback|bin/harkback) ([^'\n]+)", line):
                found.append((path.name, [re.sub(r"\$\w+", "x", word) for word in shlex.split(told)]))
    return found


def test_every_command_is_one_of_ours() -> None:
    found = commands()
    assert {name for name, _ in found} == {"slurm-ray.sh", "slurm-torchrun.sh", "README.md"}
    assert len(found) == 5
    for name, (command, *words) in found:
        understood(command, words, name)


def test_a_flag_that_does_not_exist_is_noticed() -> None:
    from harkback.errors import HarkbackError

    with pytest.raises(HarkbackError, match="--onn"):
        understood("extract", ["x", "--onn", "ray"], "here")


def understood(command: str, words: list[str], where: str) -> None:
    kind = COMMANDS[command]
    kinds = [registry for registry, names in SETTINGS.items() if command in names]
    told: Any = with_settings(kind, command, words, kinds)[0] if kinds else parsed(kind, command, words)
    assert isinstance(told, kind), where
    if command == "bench":
        from harkback.flags import names
        from harkback.registry import LEARNERS

        assert set(names(told.learners, "--learners")) <= set(LEARNERS.names())


# ---- AWS ----


@pytest.fixture
def config() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="THE YAML IS NOT READ: pyyaml is not installed")
    found: dict[str, Any] = yaml.safe_load((CLUSTER / "ray-aws.yaml").read_text())
    return found


def test_the_head_lasts_and_its_workers_are_spot(config: dict[str, Any]) -> None:
    kinds = config["available_node_types"]
    assert config["head_node_type"] in kinds
    spot = {name for name, of in kinds.items() if "InstanceMarketOptions" in of["node_config"]}
    assert spot == kinds.keys() - {config["head_node_type"]}
    assert kinds["gpu"]["resources"]["GPU"] == 1 and kinds["head"]["resources"] == {"CPU": 0}
    assert sum(of["max_workers"] for of in kinds.values()) <= config["max_workers"]


def test_every_node_mounts_the_folder_and_installs_torch_and_harkback(config: dict[str, Any]) -> None:
    every = [config["setup_commands"]]
    every += [of["worker_setup_commands"] for of in config["available_node_types"].values() if len(of) > 4]
    assert len(every) == 2
    for of in every:
        text = "\n".join(of)
        assert "mount -t nfs4" in text and " /shared" in text
        assert text.index("install --quiet torch") < text.index('"harkback[ray]"')
        assert not any("#" in line for line in of)  # It would hide what Ray puts behind a command.
    for line in (line for of in every for line in of):
        assert subprocess.run(["bash", "-n", "-c", line], check=False).returncode == 0


def test_ray_starts_without_a_dashboard_and_tells_nobody(config: dict[str, Any]) -> None:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = (line for line in config[key] if " start " in line)
        assert "RAY_USAGE_STATS_ENABLED=0" in start and "--disable-usage-stats" in start
    assert "--include-dashboard=false" in config["head_start_ray_commands"][1]
    assert "--autoscaling-config" in config["head_start_ray_commands"][1]
    assert "--address=$RAY_HEAD_IP:6379" in config["worker_start_ray_commands"][1]


def test_the_yaml_is_what_ray_takes(config: dict[str, Any]) -> None:
    ray = pytest.importorskip("ray", reason="RAY'S SCHEMA IS NOT CHECKED: ray is not installed")
    jsonschema = pytest.importorskip("jsonschema", reason="RAY'S SCHEMA IS NOT CHECKED: jsonschema is not installed")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "workers": 3}, schema)
