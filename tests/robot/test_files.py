"""Files and folders are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot import files


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_folder_leaves_the_old_folder_and_no_litter(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    for text in ("old", "new"):
        with files.replacing_folder(folder) as temporary:
            (temporary / f"{text}.txt").write_text(text)
    with pytest.raises(RuntimeError), files.replacing_folder(folder) as temporary:
        (temporary / "half.txt").write_text("half")
        raise RuntimeError("disk full")
    assert [p.name for p in folder.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_folder_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    digests = set()
    for name, text in (("a", "1"), ("a", "2"), ("b", "1")):
        with files.replacing_folder(tmp_path / "x") as folder:
            (folder / name).write_text(text)
        digests.add(files.sha256(tmp_path / "x"))
    assert len(digests) == 3


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_ctrl_c_between_the_two_renames_loses_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    rename = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), files.replacing_folder(folder) as temporary:
        (temporary / "new.txt").write_text("new")
    assert [p.name for p in folder.iterdir()] == ["old.txt"] and list(tmp_path.iterdir()) == [folder]
