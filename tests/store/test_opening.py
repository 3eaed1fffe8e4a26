"""Opening a history: made, migrated, refused; never written to where it is not ours or not sound."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from mlstudio.model.errors import StudioError, WorldError
from mlstudio.store import History, has_live_runs, migrate, opening
from mlstudio.store.database import connect
from mlstudio.store.opening import file_system_of, read_header, refuse_network
from mlstudio.store.schema import SCHEMA_NUMBER, metadata
from tests.store.conftest import add, batch, points

ROOT = Path(__file__).parents[2]


def contents(path: Path) -> dict[str, str]:
    """Hashes of the database's file and of all beside it."""
    return {
        found.name: hashlib.sha256(found.read_bytes()).hexdigest()
        for found in path.parent.iterdir()
        if not found.name.endswith(".lock")
    }


def test_a_history_is_made_for_its_owner_alone(path: Path) -> None:
    History(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    header = read_header(path)
    assert header is not None
    assert (header.schema, header.is_ours) == (SCHEMA_NUMBER, True)


def test_what_was_written_is_there_when_it_is_opened_again(path: Path) -> None:
    with closing(History(path)) as history:
        run_id = add(history, "kept")
    with closing(History(path)) as history:
        assert history.summary(run_id).name == "kept"


def test_the_migrations_make_what_the_schema_says(path: Path) -> None:
    History(path).close()
    engine = connect(path)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
    finally:
        engine.dispose()


def test_opening_an_up_to_date_history_needs_no_alembic_and_listing_runs_no_numpy(path: Path) -> None:
    History(path).close()
    code = (
        "import sys; from pathlib import Path; from mlstudio.store import History\n"
        "h = History(Path(sys.argv[1])); h.runs(); h.revision(); h.close()\n"
        "print([name for name in ('alembic', 'numpy', 'mako') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_the_database_is_copied_before_a_migration(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(History(path)) as history:
        run_id = add(history, "old")
    migrations = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, migrations)
    (migrations / "versions" / "9999_more.py").write_text(
        f"from alembic import op\nrevision = '9999'\ndown_revision = '{SCHEMA_NUMBER:04d}'\n"
        "branch_labels = None\ndepends_on = None\n"
        "def upgrade():\n    op.execute('CREATE TABLE more (x INTEGER)')\n"
    )
    monkeypatch.setattr(migrate, "MIGRATIONS", migrations)
    for module in (migrate, opening):
        monkeypatch.setattr(module, "SCHEMA_NUMBER", SCHEMA_NUMBER + 1)
    copy = migrate.bring_up_to_date(path)
    assert copy is not None
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as old, closing(sqlite3.connect(path)) as new:
        assert old.execute("SELECT id FROM run").fetchall() == [(run_id,)]
        assert old.execute("PRAGMA user_version").fetchone() == (SCHEMA_NUMBER,)
        assert new.execute("PRAGMA user_version").fetchone() == (SCHEMA_NUMBER + 1,)
        assert new.execute("SELECT count(*) FROM more").fetchone() == (0,)
    assert migrate.bring_up_to_date(path) is None


def test_a_migration_that_fails_leaves_everything_as_it_was(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(History(path)) as history:
        add(history, "old")
    migrations = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, migrations)
    (migrations / "versions" / "9999_broken.py").write_text(
        f"from alembic import op\nrevision = '9999'\ndown_revision = '{SCHEMA_NUMBER:04d}'\n"
        "branch_labels = None\ndepends_on = None\n"
        "def upgrade():\n    op.execute('CREATE TABLE more (x INTEGER)')\n    op.execute('DROP TABLE nothing')\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "MIGRATIONS", migrations)
        patch.setattr(migrate, "SCHEMA_NUMBER", SCHEMA_NUMBER + 1)
        with pytest.raises(StudioError):
            migrate.bring_up_to_date(path)
    with closing(History(path)) as history:
        assert history.runs()[0].name == "old"
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master WHERE name = 'more'").fetchone() == (0,)


def test_a_history_from_the_future_is_refused_and_left_alone(path: Path) -> None:
    History(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 99")
    before = contents(path)
    with pytest.raises(WorldError, match="newer ML Studio") as error:
        History(path)
    assert "Update" in error.value.try_this
    assert contents(path) == before


def test_a_future_that_stands_only_in_the_log_is_seen(path: Path) -> None:
    """Its writer is still there, so the number is not in the file itself yet."""
    History(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 99")
        assert read_header(path) is not None
        with pytest.raises(WorldError, match="newer ML Studio"):
            History(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"not a database at all, only text" * 100),
        lambda path: path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 200),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(b"x"),
    ],
    ids=["text", "header", "cut short", "one byte"],
)
def test_a_damaged_history_is_refused_and_left_alone(path: Path, spoil: object) -> None:
    History(path).close()
    spoil(path)  # type: ignore[operator]
    before = contents(path)
    with pytest.raises(WorldError, match="damaged") as error:
        History(path)
    assert error.value.try_this
    assert contents(path) == before


def test_damage_that_shows_later_ends_all_writing(path: Path) -> None:
    with closing(History(path)) as history:
        run_id = add(history)
        for seq in range(200):
            history.apply(run_id, batch(seq, points("loss", [float(seq)] * 50, first=seq * 50)))
        history.finish(run_id)
    with path.open("r+b") as file:
        for page in range(2, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    with closing(History(path)) as history:
        with pytest.raises(WorldError, match="damaged"):
            history.runs()
        before = path.read_bytes()
        with pytest.raises(WorldError, match="damaged"):
            add(history)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE bookmarks (x)")
    before = contents(path)
    with pytest.raises(WorldError, match="not a history"):
        History(path)
    assert contents(path) == before


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match="cannot be made"):
        History(tmp_path / "file" / "home" / "history.db")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x /mnt/my\\040home {kind} rw 0 0\n")
    with pytest.raises(WorldError, match="cannot lie") as error:
        refuse_network(Path("/mnt/my home/mlstudio/history.db"), mounts=mounts)
    assert kind in error.value.why
    assert "MLSTUDIO_HOME" in error.value.try_this
    refuse_network(Path("/home/me/history.db"), mounts=mounts)
    refuse_network(Path("/mnt/my homes/history.db"), mounts=mounts)


def test_the_mount_on_top_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "a / ext4 rw 0 0\nb /mnt nfs rw 0 0\nc /mnt/local xfs rw 0 0\nd /mnt/local tmpfs rw 0 0\n"
    )
    assert file_system_of(Path("/mnt/local/x"), mounts=mounts) == ("/mnt/local", "tmpfs")
    assert file_system_of(Path("/mnt/x"), mounts=mounts) == ("/mnt", "nfs")
    assert file_system_of(Path("/x"), mounts=tmp_path / "none") is None


def test_several_programs_that_make_the_same_history_at_once_all_get_it(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mlstudio.store import History\n"
        "h = History(Path(sys.argv[1])); print(h.count()); h.close()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in started:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, b"0\n", b"")


def test_whether_runs_are_live_is_told_without_making_a_history(path: Path) -> None:
    assert not has_live_runs(path)
    assert not path.exists()
    with closing(History(path)) as history:
        assert not has_live_runs(path)
        add(history)
        assert has_live_runs(path)
    path.write_bytes(b"rubbish")
    assert not has_live_runs(path)


def test_a_closed_history_says_so(path: Path) -> None:
    history = History(path)
    history.close()
    history.close()
    for ask in (history.runs, history.revision, history.data_version):
        with pytest.raises(WorldError, match="closed"):
            ask()
