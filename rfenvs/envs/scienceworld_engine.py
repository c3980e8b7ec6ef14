"""ScienceWorld's simulator: one Java process an `Engine`, shared by the whole process through `POOL`.

The simulator is Java; this module speaks to it by py4j, without the `scienceworld` package's own Python class, which
asks for six texts at every step (175 ms instead of 15) and lets Java take a quarter of the machine's memory.

As it comes, the simulator is not deterministic: it keeps objects in hash sets, Java hashes an object by a random
number, and so the order of things in a room, of things to choose from, and of what happens in a tick changes from one
load to the next. `-XX:hashCode=2` gives every object the same hash and makes that order the order of insertion;
everything else in the simulator is seeded by the variation. Its own agent also remembers the routes of earlier gold
paths, and would give other ones for the same world: they are forgotten first.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

_JAVA_OPTIONS = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:hashCode=2",
]
_CALL_SECONDS = 300.0
_STOP_SECONDS = 5.0
_ELECTRICAL = ("power-component", "conductivity")
SIMPLIFICATIONS = (
    "easy",
    "teleportAction",
    "selfWateringFlowerPots",
    "openContainers",
    "openDoors",
    "noElectricalAction",
)


class Scenario(NamedTuple):
    """One world: what the simulator's `load` takes."""

    task: str
    variation: int
    simplification: str = ""
    """Names of `SIMPLIFICATIONS` with commas."""


class Opening(NamedTuple):
    """What there is to read before the first command."""

    description: str
    look: str
    commands: tuple[str, ...]
    """Forms of the commands, such as `move OBJ to OBJ`."""


class Reply(NamedTuple):
    """What a command brought about."""

    text: str
    score: int
    """Percent of the task done; -100 where it cannot be done any more."""
    completed: bool


class Subgoal(NamedTuple):
    """One line of the simulator's progress table."""

    sequential: bool
    """Whether it is a step of the task, to be done in order; else it is optional."""
    number: int
    done: bool
    description: str


def parse_progress(table: str) -> tuple[Subgoal, ...]:
    """Read the simulator's table of subgoals.

    >>> parse_progress("Sequential Subgoals:\\n---\\n0\\ttrue\\t  GoalFind\\tfocus on a plant\\n")
    (Subgoal(sequential=True, number=0, done=True, description='focus on a plant'),)
    """
    found = []
    sequential = True
    for line in table.splitlines():
        cells = line.split("\t")
        if line.startswith("Unordered"):
            sequential = False
        elif len(cells) == 4 and cells[1] in ("true", "false"):
            found.append(Subgoal(sequential, int(cells[0]), cells[1] == "true", cells[3].strip()))
    return tuple(found)


def package() -> Any:
    """The `scienceworld` package.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import scienceworld
    except ImportError as error:
        raise ImportError('rfenvs/ScienceWorld-v0 needs scienceworld: pip install "rfenvs[scienceworld]".') from error
    return scienceworld


def java() -> str:
    """Path of the `java` program, from `$JAVA_HOME` or the search path.

    Raises:
        FileNotFoundError: There is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = (shutil.which("java", path=os.path.join(home, "bin")) if home else None) or shutil.which("java")
    if found is None:
        raise FileNotFoundError(
            "rfenvs/ScienceWorld-v0 needs Java 8 or newer, and there is no java program in $JAVA_HOME/bin or on the "
            "search path: install a Java runtime (on Debian and Ubuntu: apt-get install default-jre-headless)."
        )
    return found


def task_names() -> tuple[str, ...]:
    """The 30 tasks, in ScienceWorld's order."""
    package()
    from scienceworld.constants import ID2TASK

    return tuple(ID2TASK.values())


def check_simplification(names: str, tasks: tuple[str, ...]) -> None:
    """Refuse what the simulator would not take.

    Raises:
        ValueError: An unknown name, or electrical tasks without electrical commands.
    """
    for name in names.split(",") if names else ():
        if name not in SIMPLIFICATIONS:
            raise ValueError(f"simplification={names!r}: use names of {', '.join(SIMPLIFICATIONS)}, with commas.")
        for task in tasks:
            if name == "noElectricalAction" and any(word in task for word in _ELECTRICAL):
                raise ValueError(f"simplification={names!r} takes away the commands that task={task!r} needs.")


class Engine:
    """A Java process with one simulator in it. Not for two threads at a time.

    Raises:
        RuntimeError: Java does not start, or does not answer.
    """

    def __init__(self) -> None:
        package()
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
        from scienceworld.constants import BASEPATH, JAR_PATH

        program = java()
        with tempfile.TemporaryFile() as complaints:
            try:
                port, token, self._process = launch_gateway(
                    classpath=JAR_PATH,
                    cwd=BASEPATH,
                    java_path=program,
                    javaopts=_JAVA_OPTIONS,
                    die_on_exit=True,
                    enable_auth=True,
                    redirect_stderr=complaints,
                    return_proc=True,
                )
            except ValueError as error:  # instead of its port, it closed its output
                complaints.seek(0)
                said = complaints.read(500).decode(errors="replace").strip()
                raise RuntimeError(
                    f"Java does not start ({said or 'it said nothing'}): try {program} -version."
                ) from error
        self._owner = os.getpid()
        self._loaded: Scenario | None = None
        self._look = ""
        # Java objects are not counted: a forked child that drops one would tell the parent's Java to forget it.
        parameters = GatewayParameters(
            port=port,
            auth_token=token,
            auto_field=True,
            auto_convert=True,
            enable_memory_management=False,
            read_timeout=_CALL_SECONDS,
        )
        self._gateway = JavaGateway(gateway_parameters=parameters, java_process=self._process)
        self._server = self._gateway.jvm.scienceworld.runtime.pythonapi.PythonInterface()

    @property
    def usable(self) -> bool:
        """Whether the process lives and is ours, not one that a parent process left us by forking."""
        return self._owner == os.getpid() and self._process.poll() is None

    def load(self, scenario: Scenario) -> str:
        """Start a world and look around, which takes the first tick of time, as in ScienceWorld's own `reset`."""
        if self._loaded != scenario:
            self._load(scenario, gold=False)
            self._look = str(self._server.step("look around"))
            self._loaded = scenario
        return self._look

    def opening(self, scenario: Scenario) -> Opening:
        """What there is to read before the first command."""
        look = self.load(scenario)
        commands = tuple(map(str, self._server.getPossibleActions()))
        return Opening(str(self._server.freeActionTaskDesc()), look, commands)

    def step(self, command: str) -> Reply:
        """Carry out one command."""
        self._loaded = None
        text = str(self._server.step(command))
        return Reply(text, round(100 * self._server.getScore()), bool(self._server.getCompleted()))

    def progress(self) -> tuple[Subgoal, ...]:
        """The subgoals and which are done."""
        return parse_progress(self._server.getGoalProgressStr())

    def gold(self, scenario: Scenario) -> tuple[str, ...]:
        """Commands that solve the task, by the simulator's own agent: half a second, or 7 to 40 for genetics."""
        self._loaded = None
        agent = getattr(self._gateway.jvm.scienceworld.goldagent, "PathFinder$")
        getattr(agent, "MODULE$").precomputedExhaustivePaths().clear()
        self._load(scenario, gold=True)
        return tuple(map(str, self._server.getGoldActionSequence()))

    def variations(self) -> dict[str, int]:
        """Number of variations of each task."""
        return {name: int(self._server.getTaskMaxVariations(name)) for name in task_names()}

    def variations_of(self, task: str) -> dict[str, tuple[int, ...]]:
        """The simulator's own lists of the variations of a task in train, dev and test."""
        self._loaded = None
        self._load(Scenario(task, 0), gold=False)
        server = self._server
        lists = {"train": server.getVariationsTrain, "dev": server.getVariationsDev, "test": server.getVariationsTest}
        return {split: tuple(numbers()) for split, numbers in lists.items()}

    def stop(self) -> None:
        """End the Java process, if it is ours; stopping twice does no harm."""
        if self._owner != os.getpid():
            return
        self._gateway.shutdown()
        with suppress(OSError, ValueError):
            self._process.stdin.close()  # this ends it, as the end of this process would
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _load(self, scenario: Scenario, *, gold: bool) -> None:
        task, variation, simplification = scenario
        said = str(self._server.load(task, variation, simplification, gold))
        if said.startswith("ERROR"):
            raise ValueError(f"ScienceWorld cannot load {scenario}: {said}")


class Pool:
    """Engines for the whole process: an episode holds one, a look-up borrows one for as long as it takes.

    As many idle engines are kept as there are open environments, and one where there is none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Engine] = []
        self._members = 0

    def join(self) -> Lease:
        """A place for one environment."""
        with self._lock:
            self._members += 1
        return Lease(self)

    def leave(self) -> None:
        """Give a place up, and stop the engines that nobody will need."""
        with self._lock:
            self._members -= 1
            spare = self._idle[max(1, self._members) :]
            del self._idle[max(1, self._members) :]
        for engine in spare:
            engine.stop()

    def take(self) -> Engine:
        """An idle engine, the one used last, or a new one."""
        while True:
            with self._lock:
                engine = self._idle.pop() if self._idle else None
            if engine is None:
                return Engine()
            if engine.usable:
                return engine
            engine.stop()

    def give(self, engine: Engine) -> None:
        """Take an engine back."""
        with self._lock:
            keep = engine.usable and len(self._idle) < max(1, self._members)
            if keep:
                self._idle.append(engine)
        if not keep:
            engine.stop()

    @contextmanager
    def lent(self) -> Iterator[Engine]:
        """An engine for the length of a `with` block; one that fails there is not used again."""
        engine = self.take()
        try:
            yield engine
        except BaseException:
            engine.stop()
            raise
        self.give(engine)

    def close(self) -> None:
        """Stop the idle engines."""
        with self._lock:
            idle, self._idle = self._idle, []
        for engine in idle:
            engine.stop()

    def forget(self) -> None:
        """In a forked child: the engines are the parent's, and another thread may have held the lock."""
        self._lock = threading.Lock()
        self._idle = []


class Lease:
    """The engine of one environment, while it plays."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._open = True
        self.engine: Engine | None = None

    def take(self) -> Engine:
        """The engine that is held, or else one of the pool."""
        if self.engine is None or not self.engine.usable:
            self.engine = self._pool.take()
        return self.engine

    def release(self) -> None:
        """Give the engine back; no harm where none is held."""
        engine, self.engine = self.engine, None
        if engine is not None:
            self._pool.give(engine)

    def discard(self) -> None:
        """Stop the engine, since it cannot be trusted any more."""
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.stop()

    def close(self) -> None:
        """Give everything back; closing twice does no harm."""
        self.release()
        if self._open:
            self._open = False
            self._pool.leave()


POOL = Pool()
"""The engines of this process."""

atexit.register(POOL.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)


@functools.lru_cache(maxsize=8192)
def opening(scenario: Scenario) -> Opening:
    """What there is to read before the first command; each world is asked once a process."""
    with POOL.lent() as engine:
        return engine.opening(scenario)


@functools.lru_cache(maxsize=8192)
def gold(scenario: Scenario) -> tuple[str, ...]:
    """Commands that solve the task; each world is asked once a process."""
    with POOL.lent() as engine:
        return engine.gold(scenario)


@functools.cache
def variations() -> dict[str, int]:
    """Number of variations of each task; starts Java once a process."""
    with POOL.lent() as engine:
        return engine.variations()


def split_variations(count: int, split: str) -> range:
    """The variations of a split by ScienceWorld's rule: a half, a quarter, and what is left, in order.

    >>> split_variations(30, "train"), split_variations(30, "dev"), split_variations(30, "test")
    (range(0, 14), range(14, 21), range(21, 30))
    """
    quarter = count // 4
    bounds = {"train": (0, 2 * quarter), "dev": (2 * quarter, 3 * quarter), "test": (3 * quarter, count)}
    return range(*bounds[split])
