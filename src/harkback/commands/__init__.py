"""What can be typed behind ``harkback``: a dataclass a command, whose fields are its flags."""

from __future__ import annotations

from typing import Any

from harkback.commands.holding import (
    ExportCommand,
    ForgetCommand,
    InspectCommand,
    PredictCommand,
    PullCommand,
    PushCommand,
    TeachCommand,
    UndoCommand,
)
from harkback.commands.measuring import BenchCommand, DemoCommand, DoctorCommand, ExtractCommand, ReportCommand
from harkback.commands.showing import AppCommand

COMMANDS: dict[str, type[Any]] = {
    "demo": DemoCommand,
    "teach": TeachCommand,
    "predict": PredictCommand,
    "inspect": InspectCommand,
    "app": AppCommand,
    "undo": UndoCommand,
    "forget": ForgetCommand,
    "export": ExportCommand,
    "push": PushCommand,
    "pull": PullCommand,
    "bench": BenchCommand,
    "extract": ExtractCommand,
    "report": ReportCommand,
    "doctor": DoctorCommand,
}

#: The registries whose entries' settings are flags of a command.
SETTINGS = {"LEARNERS": ("bench", "teach"), "ENCODERS": ("bench", "extract", "teach")}
#: Commands of which those flags are the ones of entries that the command line names: one learner is taught, not twenty.
MENTIONED = ("teach",)
