"""What a Dockerfile says, and its build steps as a shell script: a shell can run them without an engine."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """One stage: its name, what it starts from, and its instructions in order."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str:
        """The argument of the last instruction `word`."""
        return [argument for step, argument in self.steps if step == word][-1]

    def command(self) -> list[str]:
        """ENTRYPOINT and CMD, which must be in exec form."""
        return [*json.loads(self.last("ENTRYPOINT")), *json.loads(self.last("CMD"))]

    def environment(self) -> dict[str, str]:
        """What its ENV lines set."""
        pairs = [pair for word, argument in self.steps if word == "ENV" for pair in shlex.split(argument)]
        return dict(pair.split("=", 1) for pair in pairs)


def stages(path: Path) -> dict[str, Stage]:
    """The stages of a Dockerfile, by name."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        word, _, argument = line.partition(" ")
        if word == "FROM":
            base, _, name = argument.partition(" AS ")
            stage = found[name] = Stage(name, base)
        elif word:
            assert stage is not None
            stage.steps.append((word, argument.strip()))
    return found


def script(stage: Stage, context: Path, root: Path) -> str:
    """The stage's COPY, WORKDIR and RUN as a shell script, with everything absolute below `root`."""
    lines = ["set -eu"]
    for word, argument in stage.steps:
        moved = below(argument, root)
        if word == "WORKDIR":
            lines.append(f"mkdir -p {moved} && cd {moved}")
        elif word == "RUN":
            lines.append(moved)
        elif word == "COPY" and not argument.startswith("--from="):
            *sources, target = moved.split()
            # Docker copies what is in a directory, and makes the directory.
            lines += [
                f"mkdir -p {target} && cp -R {context / source}/. {target}"
                if (context / source).is_dir()
                else f"cp {context / source} {target}"
                for source in sources
            ]
    return "\n".join(lines)


def below(text: str, root: Path) -> str:
    """`text` with the image's own directories below `root`."""
    return re.sub(r"(?<![\w.])/(opt|src|app)\b", lambda found: f"{root}/{found.group(1)}", text)
