"""A bench on Ray: each course is a task that writes its own log, in a folder that all machines see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import ray
import torch

from harkback.cluster.machines import absolute, reason
from harkback.course import Course
from harkback.material import Material

AGAIN = 2  #: times that a course is tried once more; each goes on at the session in which the last one failed
GLANCE = 1.0  #: seconds between two looks at the logs


def take(courses: Sequence[Course], material: Material, tell: Callable[[], object]) -> dict[int, str]:
    """See `harkback.engine.Engine.take`."""
    shown = [replace(clip, path=absolute(clip.path)) for clip in material.test_clips]
    here = ray.put(replace(material, test_clips=tuple(shown)))
    work = ray.remote(max_retries=AGAIN, retry_exceptions=True)(_take)
    running = {
        work.options(num_cpus=1, num_gpus=int(course.device.type == "cuda")).remote(here, _absolute(course)): number
        for number, course in enumerate(courses)
    }
    failed: dict[int, str] = {}
    while running:
        for each in ray.wait(list(running), timeout=GLANCE)[0]:
            number = running.pop(each)
            try:
                ray.get(each)
            except ray.exceptions.RayError as error:
                failed[number] = reason(error)
        tell()
    return failed


def _absolute(course: Course) -> Course:
    return replace(course, runs=tuple(replace(run, folder=run.folder.absolute()) for run in course.runs))


def _take(material: Material, course: Course) -> None:
    torch.set_num_threads(1)  # As in a process of many side by side: threads decide the order of sums.
    course.take(material, lambda finished: finished)
