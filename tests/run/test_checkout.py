"""A checkout that is not as DVC needs it is refused before anything runs, with what to do."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.run.checkout import check_checkout, find_git_fault, find_place_fault

from tests.conftest import call_in_process
from tests.run.small import load_ledger, make_small


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout of the experiment `small`."""
    root = make_small(tmp_path / "checkout")
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    return root


def move_out(root: Path, name: str) -> None:
    """Move a folder of a checkout elsewhere and leave a link in its place."""
    elsewhere = root.parent / "elsewhere" / name
    elsewhere.parent.mkdir(parents=True)
    if (root / name).exists():
        shutil.move(root / name, elsewhere)
    else:
        elsewhere.mkdir()
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).symlink_to(elsewhere)


@pytest.mark.parametrize("name", ["data", "data/small", ".dvc"])
def test_folder_that_leads_out_is_refused(small: Path, name: str) -> None:
    move_out(small, name)
    with pytest.raises(ParamsError) as caught:
        check_checkout("small")
    assert str(caught.value) == (
        f"{name} points to {small.parent}/elsewhere/{name}, outside of the checkout, where DVC keeps no outputs: move it "
        f"back. If disk space is short here, move DVC's cache with `dvc cache dir PATH`, or mount the other disk at {name} "
        "(mount --bind)"
    )


def stay_inside(root: Path) -> None:
    (root / "big").mkdir()
    (root / "data").symlink_to("big")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: None,
        stay_inside,
        lambda root: move_out(root, "params"),
        lambda root: move_out(root, "notebooks"),
        lambda root: move_out(root, "reports"),
        lambda root: move_out(root, ".dvc/cache"),
        lambda root: move_out(root, "data/eda"),
    ],
    ids=["nothing", "data inside", "params", "notebooks", "reports", "cache", "other data"],
)
def test_what_dvc_bears_is_not_refused(small: Path, change: Callable[[Path], None]) -> None:
    change(small)
    check_checkout("small")


def test_root_that_is_reached_through_a_link_is_no_fault(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small.parent / "link").symlink_to(small)
    monkeypatch.setenv("LABKIT_ROOT", str(small.parent / "link"))
    assert find_place_fault(["small"]) is None


def test_checkout_without_git_is_refused(small: Path) -> None:
    shutil.rmtree(small / ".git")
    with pytest.raises(ParamsError) as caught:
        check_checkout("small")
    assert str(caught.value) == f"{small} is not a git repository, which DVC needs: run `git init` there"
    (small / ".git").write_text("gitdir: elsewhere")  # as a worktree has it
    assert find_git_fault() is None


def test_git_may_be_done_without_where_dvc_does(small: Path) -> None:
    shutil.rmtree(small / ".git")
    (small / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    assert find_git_fault() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: move_out(root, "data"), "data points to "),
        (lambda root: shutil.rmtree(root / ".git"), "run `git init` there"),
        (
            lambda root: (root / "notebooks/01_eda.ipynb").rename(root / "notebooks/01_explore.ipynb"),
            "notebooks/01_explore.ipynb: no table `| reads | writes | parameters |` that declares its stage: ",
        ),
        (
            lambda root: (root / "notebooks/01_eda.ipynb").rename(root / "notebooks/eda.ipynb"),
            "notebooks/: no notebook NN_eda.ipynb for the stage 'eda': ",
        ),
    ],
    ids=["data", "git", "another name", "no number"],
)
def test_nothing_runs_where_the_checkout_is_at_fault(
    small: Path, change: Callable[[Path], object], message: str
) -> None:
    change(small)
    done = call_in_process(small, "run", "small", "--cold")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
    assert load_ledger(small) == []


@pytest.mark.slow
def test_number_of_one_digit_is_a_number(small: Path, store: Path) -> None:
    shutil.copy(store, small)
    (small / "notebooks" / "01_eda.ipynb").rename(small / "notebooks" / "1_eda.ipynb")
    done = call_in_process(small, "run", "small", "--cold", "--until", "eda")
    assert done.returncode == 0, done.stderr
    assert (small / "reports" / "small" / "1_eda.html").exists()
