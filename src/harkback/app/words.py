"""What is said over HTTP: the shapes of its JSON, as its OpenAPI page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from harkback.errors import HarkbackError, one_line
from harkback.names import LONGEST, WIDEST

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Problem(HTTPException):
    """A refusal: a status, and one line on what is wrong. An HTTPException, since FastAPI lets no other through."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(status, one_line(line))


def line_of(error: HarkbackError, names: Mapping[str, str]) -> str:
    """The error's line for a client: places on the server stand in it by names that the client knows, or not at all.

    names: of places, as paths.
    """
    where = None if error.where is None or error.where not in names else names[error.where]
    line = str(HarkbackError(error.what, where=where, mend=error.mend))
    for place, name in sorted(names.items(), key=lambda each: -len(each[0])):
        line = line.replace(place, name)
    return line


class Word(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Failure(Word):
    """Why a request was not done."""

    error: str = Field(description="one line: what, where, how to mend it")


class Health(Word):
    status: Literal["ok"]
    harkback: str = Field(description="version of Harkback")
    model: str
    version: Count = Field(description="how often the model was changed; 0: nothing was taught yet")
    waiting: Count = Field(description="lessons that wait or are being learnt")


class KnownClass(Word):
    name: str
    clips: Count = Field(description="clips it was learnt from")
    right: Count = Field(description="of those asked as if they had not been learnt, how many were told rightly")
    asked: Count
    examples: list[str] = Field(description="where small pictures of its clips are, a few at most")


class Bounds(Word):
    """What a client may send."""

    bytes: Count = Field(description="of a file")
    lesson_bytes: Count = Field(description="of all files of a lesson")
    seconds: float = Field(description="that a clip may last")
    files: Count = Field(description="of a lesson")
    max_drop: float = Field(description="share of the clips of old classes that a lesson may cost unless it is forced")


class ModelFacts(Word):
    name: str
    version: Count
    harkback: str
    learner: str | None = Field(description="null: nothing was taught yet")
    encoder: str | None
    false_alarm: float = Field(description="share of clips of known classes that may be called unknown")
    says_unknown: bool = Field(description="whether it retains enough clips to promise that share")
    looks: bool = Field(description="whether it can say where it looked")
    undoable: bool = Field(description="whether a version before is kept")
    last: str | None = Field(description="what the last change was, in words")
    sessions: Count
    classes: list[KnownClass]
    limits: Bounds


class Ranked(Word):
    label: str
    confidence: Share


class Heat(Word):
    """Where the sound made the model look."""

    frames: Count = Field(description="equal parts of the window")
    rows: Count
    columns: Count
    power: Literal[2] = Field(description="to which each byte / 255 is raised, to be a share of the hottest patch")
    data: str = Field(description="base64 of frames x rows x columns bytes")


class AnswerWord(Word):
    """What the model takes a window of the file for."""

    start: float = Field(description="seconds")
    end: float = Field(description="seconds")
    label: str | None = Field(description="null: unknown")
    unknown: bool
    likeliest: str = Field(description="of an unknown window too; empty where nothing could be decoded")
    confidence: Share
    ranking: list[Ranked]
    heard: bool
    seen: bool
    sound: float | None = Field(description="what the sound contributed, -1..1; negative: it spoke against the answer")
    picture: float | None = Field(description="what the picture contributed; the sizes of both add up to 1")
    heat: Heat | None
    note: str = Field(description="why there is no heat")
    pictures: list[str] | None = Field(description="data: URIs of the frames, where they were asked for")


class Prediction(Word):
    file: str
    seconds: float
    answers: list[AnswerWord]


class Decision(Word):
    force: bool = Field(False, description="teach however much it costs")


class Step(Word):
    version: Count | None = Field(None, description="what the client takes for the model's version; another is refused")


class Forgetting(Step):
    name: str = Field(min_length=1, max_length=max(LONGEST, WIDEST), description="of the class")


class Cost(Word):
    """Clips of old classes that the model retains, each asked as if it had not been learnt."""

    asked: Count
    right: Count = Field(description="told rightly before the lesson")
    right_after: Count


class Strangers(Word):
    """Clips of the new class, put to the model before it learnt them."""

    asked: Count
    told: Count = Field(description="that it called unknown")
    auroc: float


class Outcome(Word):
    """What a lesson did, or would do."""

    clips: Count
    new: bool = Field(description="whether the class is new")
    known: Count = Field(description="classes that the model knows with it")
    cost: Cost | None = Field(description="null: there is no clip of an old class to ask")
    too_dear: bool = Field(description="it costs more than limits.max_drop")
    strangers: Strangers | None
    exam: tuple[Count, Count] | None = Field(description="clips of the class told rightly, and asked")
    version: Count | None = Field(description="of the model that has learnt it; null: it has not")


class LessonClip(Word):
    name: str
    state: Literal["waiting", "read", "left out"]
    reason: str | None


State = Literal["waiting", "reading", "learning", "asking", "writing", "done", "discarded", "failed"]


class LessonWord(Word):
    id: str
    label: str
    state: State = Field(description="asking: somebody has to decide, by commit or delete")
    before_it: Count = Field(description="lessons that come first")
    read: Count
    clips: list[LessonClip]
    seconds: float
    error: str | None
    outcome: Outcome | None


class BenchWord(Word):
    name: str
    title: str
    learners: list[str]
    when: str = Field(description="local time of the report")
