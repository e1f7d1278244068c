//! The kernel's requests, each a call of the medium.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;
use rocket_mapped_file::memory::Dice;

use super::now_us;
use super::syncer::Late;
use crate::disk::{About, Disk, Refusal};
use crate::image::PAGE_BYTES;

/// Nobody else changes anything, so the kernel may believe what it was told.
const BELIEVED: Duration = Duration::from_hours(1);
/// `FALLOC_FL_ZERO_RANGE` and `FALLOC_FL_PUNCH_HOLE` of Linux.
const MAKES_ZERO: i32 = 0x10 | 0x02;
const BLOCK: u32 = 4096;

/// The kernel's requests.
pub(super) struct Layer {
    pub(super) disk: Arc<Mutex<Disk>>,
    pub(super) late: Sender<Late>,
    pub(super) tell: Sender<()>,
    pub(super) dice: Mutex<Dice>,
    pub(super) sync_us: u64,
}

impl Layer {
    fn told<T>(&self, deed: impl FnOnce(&mut Disk) -> T) -> T {
        let mut disk = self.disk.lock();
        let was_cut = disk.is_cut();
        let result = deed(&mut disk);
        if !was_cut && disk.is_cut() {
            let _ = self.tell.send(());
        }
        result
    }
}

pub(super) const fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::NotFound => Errno::ENOENT,
        Refusal::Exists => Errno::EEXIST,
        Refusal::NotEmpty => Errno::ENOTEMPTY,
        Refusal::IsFolder => Errno::EISDIR,
        Refusal::Io => Errno::EIO,
        Refusal::NoSpace => Errno::ENOSPC,
        Refusal::ReadOnly => Errno::EROFS,
    }
}

fn attr(about: About) -> FileAttr {
    let kind = kind(about);
    FileAttr {
        ino: INodeNo(about.node),
        size: about.len,
        blocks: about.pages * (PAGE_BYTES as u64 / 512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: if about.is_folder { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

const fn kind(about: About) -> FileType {
    if about.is_folder {
        FileType::Directory
    } else {
        FileType::RegularFile
    }
}

fn entry(result: Result<About, Refusal>, reply: ReplyEntry) {
    match result {
        Ok(about) => reply.entry(&BELIEVED, &attr(about), Generation(0)),
        Err(refusal) => reply.error(errno(refusal)),
    }
}

fn empty(result: Result<(), Refusal>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(refusal) => reply.error(errno(refusal)),
    }
}

fn text(name: &OsStr) -> &str {
    name.to_str().unwrap_or("?")
}

impl Filesystem for Layer {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.disk.lock().lookup(parent.0, text(name)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.disk.lock().about(ino.0) {
            Ok(about) => reply.attr(&BELIEVED, &attr(about)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk.lock();
        let done = size.map_or(Ok(()), |len| disk.set_len(ino.0, len, now_us()));
        match done.and_then(|()| disk.about(ino.0)) {
            Ok(about) => reply.attr(&BELIEVED, &attr(about)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        entry(self.disk.lock().create(parent.0, text(name), true), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.disk.lock().remove(parent.0, text(name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.disk.lock().remove(parent.0, text(name)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            reply.error(Errno::EINVAL);
            return;
        }
        let (from, to) = ((parent.0, text(name)), (newparent.0, text(newname)));
        empty(self.disk.lock().rename(from, to), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let handle = self.disk.lock().open(ino.0);
        reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn release(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.disk.lock().close(fh.0);
        reply.ok();
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.disk.lock();
        match disk.create(parent.0, text(name), false) {
            Ok(about) => reply.created(
                &BELIEVED,
                &attr(about),
                Generation(0),
                FileHandle(disk.open(about.node)),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk.lock().read(ino.0, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.told(|disk| disk.write(ino.0, offset, data, now_us())) {
            Ok(written) => reply.written(u32::try_from(written).unwrap_or(0)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        let sync = self.told(|disk| disk.sync_begin(ino.0, now_us()));
        let takes = Duration::from_micros(self.dice.lock().within(0, self.sync_us + 1));
        let late = Late {
            due: Instant::now() + takes,
            node: ino.0,
            handle: fh.0,
            sync,
            reply,
        };
        // The receiver lives as long as this sender.
        let _ = self.late.send(late);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.disk.lock().sync_folder(ino.0), reply);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let list = self.disk.lock().list(ino.0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (name, about)) in list.into_iter().enumerate().skip(from) {
            if reply.add(INodeNo(about.node), at as u64 + 1, kind(about), name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let disk = self.disk.lock();
        let blocks = |bytes: u64| bytes / u64::from(BLOCK);
        let capacity = disk.capacity().unwrap_or(1 << 40);
        let free = blocks(capacity.saturating_sub(disk.used()));
        let (files, free_files) = (1 << 20, 1 << 20);
        reply.statfs(
            blocks(capacity),
            free,
            free,
            files,
            free_files,
            BLOCK,
            255,
            BLOCK,
        );
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let range = offset..offset.saturating_add(length);
        let zero = mode & MAKES_ZERO != 0;
        empty(
            self.disk.lock().allocate(ino.0, range, zero, now_us()),
            reply,
        );
    }
}
