"""The folder that a layer is unpacked into, and the guard that nothing lands anywhere else.

Layer: layers (imports tar, whiteouts, scratch, errors).

A layer is a stranger's file. The rules that stand against it:

- No path is ever handed to the kernel as a whole. Each folder on the way is opened by its own name, in the one before,
  with O_NOFOLLOW; `..` is refused, a leading `/` means the top of the layer, a link on the way is an error.
- The first name of a hard link is looked up in the same way, so that it can only be one of the layer's own files.
- Only `user.*` and `security.capability` are taken of its extended attributes: overlay's own would steer the mount.

Who isn't root gets what the kernel lets him have: all is his own (no chown), there are no devices, and his folders
keep rwx for him, so that they can be removed again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from ..errors import IntegrityError
from ..trees import remove_tree
from . import tar, whiteouts
from .packing import is_kept

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = {tar.CHARACTER: stat.S_IFCHR, tar.DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
_LONGEST_NAME = 3584
"""Shorter than PATH_MAX, so that there is room for the state folder's own path in front when it is removed."""


class Tree:
    """A folder being filled from an archive, entered through descriptors only. `size`: the bytes of its files."""

    def __init__(self, path: str) -> None:
        self.size = 0
        self._path = os.fsencode(path)
        self._root = os.geteuid() == 0
        self._top = os.open(path, _FOLDER)
        self._here: tuple[bytes, ...] | None = None
        self._fd = -1
        self._times = (0, 0)

    def close(self) -> None:
        """Close the descriptors."""
        self._leave()
        os.close(self._top)

    def add(self, entry: tar.Entry, content: Iterator[bytes]) -> None:
        """Make what one member of the archive says. What has its name already is replaced; folders are merged.

        Raises IntegrityError where it breaks a rule above, OSError as the system calls do.
        """
        parts = _parts(entry.name)
        if not parts:
            self._leave()
            if entry.kind == tar.FOLDER:
                self._dress(self._top, entry)
            return
        if any(part.startswith(whiteouts.PREFIX) for part in parts[:-1]):
            return  # below a mark there is only AUFS's bookkeeping
        folder, name = self._enter(parts[:-1]), parts[-1]
        if name.startswith(whiteouts.PREFIX):
            self._white_out(name, folder)
        elif entry.kind == tar.FOLDER:
            self._clear(parts, folder, keep_folder=True)
            with self._made_folder(name, folder) as fd:
                self._dress(fd, entry)
        elif entry.kind == tar.HARDLINK:
            self._add_link(entry, parts, folder)
        else:
            self._clear(parts, folder)
            if entry.kind == tar.FILE:
                self._add_file(entry, name, folder, content)
            else:
                self._add_special(entry, name, folder)

    # The ways in

    def _enter(self, parts: tuple[bytes, ...]) -> int:
        """A descriptor of the folder `parts`, made where it is missing; it stays open until another one is entered."""
        if parts != self._here:
            self._leave()
            self._fd = self._walk(parts, make=True)
            self._here = parts
            self._times = _times(self._fd)
        return self._fd

    def _leave(self) -> None:
        """Close the open folder, with the modification time that it had before things were put into it."""
        if self._here is not None:
            self._here = None
            os.utime(self._fd, ns=self._times)
            os.close(self._fd)

    def _walk(self, parts: tuple[bytes, ...], make: bool = False) -> int:
        """Go down from the top, one name at a time, never through a link. The caller closes the descriptor."""
        fd = os.dup(self._top)
        try:
            for name in parts:
                try:
                    below = os.open(name, _FOLDER, dir_fd=fd)
                except OSError as error:
                    if not make or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                        raise
                    times = _times(fd)
                    with self._made_folder(name, fd) as made:
                        below = os.dup(made)
                    os.utime(fd, ns=times)
                os.close(fd)
                fd = below
        except BaseException as error:
            os.close(fd)
            if isinstance(error, NotADirectoryError):
                problem = f"the layer has a path through something that isn't a folder: {_show(parts)}"
                raise IntegrityError(problem) from None
            raise
        return fd

    @contextlib.contextmanager
    def _made_folder(self, name: bytes, folder: int) -> Iterator[int]:
        """Make a folder if it isn't there, and open it. Over the layer's own whiteout, it hides what is below."""
        covers = False
        with contextlib.suppress(FileNotFoundError):
            covers = whiteouts.is_whiteout(os.lstat(name, dir_fd=folder))
        if covers:
            os.unlink(name, dir_fd=folder)
        with contextlib.suppress(FileExistsError):  # if it is something else, opening it will tell
            os.mkdir(name, dir_fd=folder)
            os.chmod(name, 0o755, dir_fd=folder)
        fd = os.open(name, _FOLDER, dir_fd=folder)
        try:
            if covers:
                whiteouts.make_opaque(fd)
            yield fd
        finally:
            os.close(fd)

    def _clear(self, parts: tuple[bytes, ...], folder: int, keep_folder: bool = False) -> None:
        """Remove what has this name, for something new; a folder that comes only replaces what isn't one."""
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(parts[-1], dir_fd=folder)
            if keep_folder and (stat.S_ISDIR(status.st_mode) or whiteouts.is_whiteout(status)):
                return
            if stat.S_ISDIR(status.st_mode):
                remove_tree(os.fsdecode(b"/".join((self._path, *parts))))
            else:
                os.unlink(parts[-1], dir_fd=folder)

    # The kinds of members

    def _white_out(self, name: bytes, folder: int) -> None:
        gone = name.removeprefix(whiteouts.PREFIX)
        if name == whiteouts.OPAQUE:
            whiteouts.make_opaque(folder)
        elif gone in (b"", b".", b".."):
            raise IntegrityError(f"the layer deletes a name that can't be: {os.fsdecode(name)!r}")
        elif not name.startswith(whiteouts.RESERVED):
            try:  # a whiteout is for the layers below, not for what this one brings
                is_folder = stat.S_ISDIR(os.lstat(gone, dir_fd=folder).st_mode)
            except FileNotFoundError:
                whiteouts.make_whiteout(gone, folder)
            else:
                if is_folder:
                    with self._made_folder(gone, folder) as fd:
                        whiteouts.make_opaque(fd)

    def _add_file(self, entry: tar.Entry, name: bytes, folder: int, content: Iterator[bytes]) -> None:
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        try:
            for piece in content:
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            self._dress(fd, entry)
            self.size += entry.size
        finally:
            os.close(fd)

    def _add_link(self, entry: tar.Entry, parts: tuple[bytes, ...], folder: int) -> None:
        first = _parts(entry.link)
        try:
            if not first:
                raise FileNotFoundError
            source = self._walk(first[:-1])
            try:
                os.lstat(first[-1], dir_fd=source)
                self._clear(parts, folder)
                os.link(first[-1], parts[-1], src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(source)
        except (FileNotFoundError, PermissionError):  # it isn't there, or it is a folder
            problem = f"the layer has a hard link to {os.fsdecode(entry.link)!r}, which isn't one of its files"
            raise IntegrityError(problem) from None

    def _add_special(self, entry: tar.Entry, name: bytes, folder: int) -> None:
        """A symbolic link, a fifo, or a device."""
        if entry.kind == tar.SYMLINK:
            os.symlink(entry.link, name, dir_fd=folder)
        elif entry.kind in _DEVICES:
            try:
                os.mknod(name, _DEVICES[entry.kind] | 0o600, os.makedev(entry.major, entry.minor), dir_fd=folder)
            except PermissionError:
                return
        else:
            raise IntegrityError(
                f"the layer has {_show(_parts(entry.name))!r} of a kind that can't be read: {entry.kind!r}"
            )
        if self._root:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=folder)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)

    def _dress(self, fd: int, entry: tar.Entry) -> None:
        """Owner, mode, attributes and time of a file or folder; in this order, since chown takes set-id bits away."""
        mode = entry.mode
        if self._root:
            os.fchown(fd, entry.uid, entry.gid)
        elif entry.kind == tar.FOLDER:
            mode |= 0o700
        os.fchmod(fd, mode)
        for key, value in entry.xattrs.items():
            if is_kept(key):
                with contextlib.suppress(OSError):  # a file system without them, or a capability that only root may set
                    os.setxattr(fd, key, value)
        os.utime(fd, ns=(entry.mtime, entry.mtime))


def _times(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_atime_ns, status.st_mtime_ns


def _parts(name: bytes) -> tuple[bytes, ...]:
    """A member's name as the folders on the way and the last name. Raises IntegrityError if it leads upwards."""
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise IntegrityError(f"the layer has a path that leads out of it: {_show(parts)}")
    if len(name) > _LONGEST_NAME:
        raise IntegrityError(f"the layer has a name that is too long: {_show(parts)}")
    return parts


def _show(parts: tuple[bytes, ...]) -> str:
    path = os.fsdecode(b"/".join(parts))
    return path if len(path) < 80 else path[:79] + "…"
