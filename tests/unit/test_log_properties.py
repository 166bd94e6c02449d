"""The prediction log, stopped anywhere and gone on with: what was committed is there, and nothing half done counts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fakes import same_state
from harkback import log
from harkback.log import Run
from harkback.state import State

SIZES = (2, 1, 3, 1)


def session(t: int, who: int, attempt: int) -> tuple[State, dict[str, object], State]:
    """Arrays, facts and the state of a session; another attempt at it comes to other numbers."""
    some = torch.Generator().manual_seed(100 * attempt + 10 * t + who)
    classes = sum(SIZES[: t + 1])
    clips = classes + who
    truth = torch.randint(classes, (clips,), generator=some)
    arrays = {"scores": torch.randn(clips, classes, generator=some), "rows": torch.arange(clips), "truth": truth}
    facts = {"classes": [str(i) for i in range(classes)], "sizes": list(SIZES[: t + 1]), "attempt": attempt}
    return arrays, facts, {"weight": torch.randn(3, generator=some)}


class Logged(RuleBasedStateMachine):
    """Two runs side by side, each by a process that may die at any write."""

    @initialize()
    def begin(self) -> None:
        self.room = TemporaryDirectory()
        self.still = patch("os.fsync", lambda _: None)
        self.still.start()
        self.committed: list[list[int]] = [[], []]  #: the attempt that each session of each run was committed by
        self.attempts = 0
        self.lost: set[int] = set()  #: runs whose state to go on from is gone

    def teardown(self) -> None:
        if hasattr(self, "room"):
            self.still.stop()
            self.room.cleanup()

    def run_of(self, who: int) -> Run:
        """As a process finds it that has just begun."""
        return Run(Path(self.room.name) / f"run {who}", "ncm", 0, who)

    def write(self, who: int) -> None:
        t = len(self.committed[who])
        arrays, facts, state = session(t, who, self.attempts)
        self.run_of(who).write(t, arrays, facts, None if t == len(SIZES) - 1 else state)

    def commit(self, who: int) -> None:
        self.committed[who].append(self.attempts)
        self.lost.discard(who)

    @rule(who=st.integers(0, 1))
    def go_on(self, who: int) -> None:
        if len(self.committed[who]) < len(SIZES):
            self.attempts += 1
            self.write(who)
            self.commit(who)

    @rule(who=st.integers(0, 1), after=st.integers(0, 2))
    def die(self, who: int, after: int) -> None:
        """When so many of the session's files are written; the list of facts is the last."""
        if len(self.committed[who]) == len(SIZES):
            return
        self.attempts += 1
        writes = 0

        def counted(write):  # type: ignore[no-untyped-def]
            def one(*given: object) -> None:
                nonlocal writes
                if writes == after:
                    raise KeyboardInterrupt
                writes += 1
                write(*given)

            return one

        arrays, facts = counted(log.write_arrays), counted(log.write_json)
        with patch.object(log, "write_arrays", arrays), patch.object(log, "write_json", facts):
            try:
                self.write(who)
            except KeyboardInterrupt:
                return
        self.commit(who)  # The last session writes no state: two files are all.

    @rule(who=st.integers(0, 1))
    def die_before_the_former_state_is_removed(self, who: int) -> None:
        if len(self.committed[who]) < len(SIZES):
            self.attempts += 1
            unlink = Path.unlink

            def dies(path: Path, missing_ok: bool = False) -> None:
                if path.name.startswith("state-"):
                    raise KeyboardInterrupt
                unlink(path, missing_ok)

            with patch.object(Path, "unlink", dies), suppress(KeyboardInterrupt):
                self.write(who)
            self.commit(who)

    @precondition(lambda self: any(getattr(self, "committed", ())))
    @rule(who=st.integers(0, 1))
    def lose_the_tail(self, who: int) -> None:
        """The facts of the last session are gone: it was never finished, and what came before it was."""
        if self.committed[who]:
            self.committed[who].pop()
            (self.run_of(who).folder / f"session-{len(self.committed[who]):02d}.json").unlink()
            self.lost.add(who)  # The state of the session before was removed when this one was finished.

    @invariant()
    def what_was_committed_is_there_and_nothing_else(self) -> None:
        for who, attempts in enumerate(getattr(self, "committed", ())):
            run = self.run_of(who)
            assert run.done() == len(attempts)
            answers = run.answered()
            assert len(answers) == len(attempts)
            for t, attempt in enumerate(attempts):
                arrays, facts, _ = session(t, who, attempt)
                assert run.facts(t) == facts
                assert torch.equal(run.scores(t), arrays["scores"])
                assert answers[t].said.tolist() == arrays["scores"].argmax(1).tolist()
                came = [s for s, size in enumerate(SIZES) for _ in range(size)]
                assert answers[t].came.tolist() == [came[c] for c in arrays["truth"].tolist()]

    @invariant()
    def there_is_a_state_to_go_on_from(self) -> None:
        for who, attempts in enumerate(getattr(self, "committed", ())):
            if 0 < len(attempts) < len(SIZES) and who not in self.lost:
                t = len(attempts) - 1
                assert same_state(self.run_of(who).state(t), session(t, who, attempts[-1])[2])


TestLogged = Logged.TestCase
TestLogged.settings = settings(max_examples=max(8, settings.default.max_examples // 5), stateful_step_count=12)
