"""The two commits, each as files in a folder of its own: of the second the working tree, where none is named.

A tree is written by git into `.asv/gate/`, with nothing of it registered anywhere. What differs between two
trees is asked of the code that runs: a comment, a docstring, a page differ and take no time.
"""

from __future__ import annotations

import ast
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _matrix
from harness.errors import UsageError
from harness.files import alone
from harness.text import counted
from scripts.gate.record import Commit
from scripts.git import git

FOLDER = Path(".asv/gate")
RUNS = ("harness", "acestep", "subjects", "tiersim", "calibrations")  # what of a commit is measured
BESIDE = ("benchmarks", "constraints.txt", "pyproject.toml")  # the same for both: as it is here


@dataclass(frozen=True, slots=True)
class Side:
    """A commit, its tree and the folder that holds it, as asv's environments do, in `project`."""

    commit: Commit
    tree: str
    folder: Path

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def environ(self) -> dict[str, str]:
        """What a worker is told, so that it measures this side and nothing that is installed."""
        return {
            "ASV_CONF_DIR": str(Path.cwd()),
            "ASV_ENV_DIR": str(self.folder.resolve()),
            "ASV_COMMIT": self.tree if self.commit.working_tree else self.commit.sha,
            "PYTHONPATH": str(self.project.resolve()),
        }

    @contextmanager
    def current(self) -> Iterator[None]:
        """This side's environment, and the whole matrix."""
        with whole_matrix():
            os.environ |= self.environ
            yield


@contextmanager
def whole_matrix() -> Iterator[None]:
    """Every cell, whatever the environment narrows the matrix to. Changes to it go with the block."""
    kept = dict(os.environ)
    try:
        for name in (_matrix.FILTER, _matrix.SELECTED):
            os.environ.pop(name, None)
        yield
    finally:
        os.environ.clear()
        os.environ |= kept


@contextmanager
def checked_out(base: str, head: str | None) -> Iterator[tuple[Side, Side]]:
    """Both sides, whose folders nobody else uses meanwhile; `head` None is the working tree.

    Raises UsageError where they are one, where a name is no commit, and while another gate runs here;
    MissingPrerequisite where git has no repository here, or cannot write to it.
    """
    git("rev-parse", "--git-dir")  # else no name would be a commit
    sides = _named("base", base), _named("head", head) if head else _working_tree()
    if (sides[0].commit.sha, sides[0].tree) == (sides[1].commit.sha, sides[1].tree):
        what = head or "the working tree"
        raise UsageError(
            f"{base} and {what} are one commit, with nothing changed; name two, or change a file"
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(alone("gate", FOLDER, FOLDER))
        except UsageError:
            raise UsageError(
                "another gate runs in this folder; wait for it, or use another checkout"
            ) from None
        for side in sides:
            _write(side)
        yield sides


def _named(role: str, name: str) -> Side:
    sha = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", refused="")
    if not sha:
        names = ("branch", "--remotes", "--format=%(refname:short)", "--list", f"*/{name}")
        remote, *_ = git(*names, refused="").split("\n")
        there = f"the branch {remote} is one" if remote else "git log shows those there are"
        raise UsageError(f"{name!r} is no commit of this repository; {there}")
    return Side(Commit(sha, _title(sha)), git("rev-parse", f"{sha}^{{tree}}"), FOLDER / role)


def _working_tree() -> Side:
    """The files as they are, with those that git does not track and does not ignore."""
    head = _named("head", "HEAD")
    with index():
        git("read-tree", "HEAD")
        git("add", "--all", ".")
        tree = git("write-tree")
    if tree == head.tree:
        return head
    return Side(
        Commit(head.commit.sha, f"uncommitted, on {head.commit.title}"[:200], True), tree, head.folder
    )


def _title(sha: str) -> str:
    return git("log", "-1", "--format=%s", sha)[:190]


def _write(side: Side) -> None:
    if side.project.exists():
        shutil.rmtree(side.project)
    side.project.mkdir(parents=True)
    with index():
        git("read-tree", side.tree)
        git("checkout-index", "--all", f"--prefix={side.project}/")


@contextmanager
def index() -> Iterator[None]:
    """An index of git's beside the one in use."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GIT_INDEX_FILE"] = f"{folder}/index"
        try:
            yield
        finally:
            del os.environ["GIT_INDEX_FILE"]


def left_behind(base: Side, head: Side) -> str:
    """What BASE has that HEAD never had, in words: a loss there would read as a gain of HEAD's. Empty where
    one has come from the other."""
    ours, theirs = head.commit.sha, base.commit.sha
    parted = git("merge-base", theirs, ours, refused="")
    if parted in ("", theirs) or (parted == ours and not head.commit.working_tree):
        return ""
    commits = counted(int(git("rev-list", "--count", f"{ours}..{theirs}")), "commit")
    return (
        f"BASE has {commits} that HEAD lacks, and what they did is compared too, the other way round;"
        f" {parted[:12]}, where the two parted, leaves it out"
    )


def what_differs(base: Side, head: Side) -> tuple[list[str], list[str]]:
    """Files that run and do so otherwise, and those of BESIDE that both sides have from here."""
    names = git("diff", "--name-only", "-z", "--no-renames", base.tree, head.tree).split("\0")
    run = [name for name in names if name.startswith(tuple(f"{part}/" for part in RUNS))]
    beside = [name for name in names if name in BESIDE or name.startswith("benchmarks/")]
    return [name for name in run if _code(base.project / name) != _code(head.project / name)], beside


def _code(path: Path) -> object:
    """What a file does: of Python its syntax without docstrings, of anything else its bytes."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    if path.suffix != ".py":
        return data
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return data
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
