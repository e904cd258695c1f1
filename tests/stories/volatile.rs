//! The layer of volatile disks loses what a disk may lose, and nothing else: what the tests of power loss conclude
//! rests on it.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::surroundings;
use nix::fcntl::{FallocateFlags, fallocate};
use volatile::{Disk, Fate, Image};

/// Tells the child what to do, and where.
const DEED: &str = "VOLATILE_DEED";

type Deed = fn(&Path);

/// Deeds, by name: each is carried out in a process of its own under the layer, in an empty folder.
const DEEDS: [(&str, Deed); 11] = [
    ("write", |folder| drop(written(folder))),
    ("write, sync", |folder| written(folder).sync_all().unwrap()),
    ("write, sync, sync folder", |folder| {
        written(folder).sync_data().unwrap();
        sync(folder);
    }),
    ("write, sync folder", |folder| {
        drop(written(folder));
        sync(folder);
    }),
    ("sync by another handle", |folder| {
        let _written = written(folder);
        File::open(folder.join("file")).unwrap().sync_data().unwrap();
        sync(folder);
    }),
    ("rename", |folder| {
        written(folder).sync_all().unwrap();
        sync(folder);
        fs::rename(folder.join("file"), folder.join("renamed")).unwrap();
    }),
    ("rename, sync folder", |folder| {
        written(folder).sync_all().unwrap();
        fs::rename(folder.join("file"), folder.join("renamed")).unwrap();
        sync(folder);
    }),
    ("remove", |folder| {
        written(folder).sync_all().unwrap();
        sync(folder);
        fs::remove_file(folder.join("file")).unwrap();
    }),
    ("overwrite after sync", |folder| {
        let file = written(folder);
        file.sync_all().unwrap();
        sync(folder);
        file.write_all_at(b"NEW", 0).unwrap();
        file.set_len(4).unwrap();
    }),
    ("folders", |folder| {
        fs::create_dir(folder.join("kept")).unwrap();
        sync(folder);
        fs::create_dir(folder.join("kept/lost")).unwrap();
        fs::create_dir(folder.join("gone")).unwrap();
        fs::write(folder.join("gone/file"), "content").unwrap();
        fs::remove_dir_all(folder.join("gone")).unwrap();
    }),
    ("everything", everything),
];

/// What a Rust program cannot do without unsafe code.
const SYNC_FILE_RANGE: &str = "
import ctypes, os, sys
file = os.open(sys.argv[1] + '/file', os.O_CREAT | os.O_WRONLY)
os.write(file, b'old content')
os.fsync(os.open(sys.argv[1], os.O_RDONLY))
all_of_it, wait_before_write_wait_after = ctypes.c_int64(0), 7
if ctypes.CDLL(None).sync_file_range(file, all_of_it, all_of_it, wait_before_write_wait_after) != 0:
    sys.exit('sync_file_range has failed')
";

/// A disk on which the deed was done, and what its folder holds.
fn done(deed: &str) -> (Disk, Image) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "stories::volatile::child", "--ignored"]).env(DEED, deed);
    run(child, |_, _| ())
}

/// A disk on which a command has run, and what its folder holds.
fn run(mut child: Command, finish: impl Fn(&mut Command, &Path)) -> (Disk, Image) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().canonicalize().unwrap();
    let (folder, journal) = (root.join("folder"), root.join("journal"));
    fs::create_dir(&folder).unwrap();
    finish(&mut child, &folder);
    child.env("LD_PRELOAD", surroundings::volatile_layer());
    child.env(volatile::FOLDER_VARIABLE, &folder).env(volatile::JOURNAL_VARIABLE, &journal);
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut disk = Disk::new(&folder, Image::default());
    disk.replay(&fs::read(journal).unwrap());
    (disk, Image::read(&folder).unwrap())
}

#[test]
#[ignore = "does a deed of the other tests, in a process of its own"]
fn child() {
    let deed = std::env::var(DEED).unwrap();
    let (_, act) = DEEDS.iter().find(|(name, _)| *name == deed).unwrap();
    act(&PathBuf::from(std::env::var_os(volatile::FOLDER_VARIABLE).unwrap()));
}

fn written(folder: &Path) -> File {
    let mut file = File::create_new(folder.join("file")).unwrap();
    file.write_all(b"old content").unwrap();
    file
}

fn sync(folder: &Path) {
    File::open(folder).unwrap().sync_all().unwrap();
}

fn after(deed: &str, fate: Fate) -> Image {
    done(deed).0.cut(fate, 0)
}

fn file_after(deed: &str, fate: Fate) -> Option<String> {
    after(deed, fate).file("file").map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn what_was_written_and_not_synced_is_lost() {
    assert_eq!(file_after("write", Fate::Lost), None);
    assert_eq!(file_after("write, sync folder", Fate::Lost).unwrap(), "");
    assert_eq!(file_after("write", Fate::Kept).unwrap(), "old content");
}

#[test]
fn what_was_synced_is_kept_under_a_name_that_was_synced() {
    assert_eq!(file_after("write, sync", Fate::Lost), None, "the name is not durable");
    for deed in ["write, sync, sync folder", "sync by another handle"] {
        for fate in [Fate::Lost, Fate::Ordered, Fate::Scattered, Fate::Kept] {
            assert_eq!(file_after(deed, fate).unwrap(), "old content", "{deed} {fate:?}");
        }
    }
}

#[test]
fn sync_file_range_makes_nothing_durable() {
    let mut python = Command::new(surroundings::python());
    python.args(["-c", SYNC_FILE_RANGE]);
    let (disk, folder) = run(python, |python, folder| {
        python.arg(folder);
    });
    assert_eq!(folder.file("file").unwrap(), b"old content");
    assert_eq!(disk.cut(Fate::Lost, 0).file("file").unwrap(), b"");
}

#[test]
fn a_rename_may_be_lost_until_the_folder_is_synced() {
    let names = |deed, fate| {
        let left = after(deed, fate);
        ["file", "renamed"].map(|name| left.file(name).is_some())
    };
    assert_eq!(names("rename", Fate::Lost), [true, false]);
    assert_eq!(names("rename", Fate::Kept), [false, true]);
    assert_eq!(names("rename, sync folder", Fate::Lost), [false, true]);
    let either: Vec<_> = (0..20).map(|seed| done("rename").0.cut(Fate::Scattered, seed)).collect();
    assert!(either.iter().all(|left| left.file("file").is_some() != left.file("renamed").is_some()));
    assert!(either.iter().any(|left| left.file("file").is_some()));
    assert!(either.iter().any(|left| left.file("renamed").is_some()));
}

#[test]
fn a_removal_may_be_lost() {
    assert_eq!(file_after("remove", Fate::Lost).unwrap(), "old content");
    assert_eq!(file_after("remove", Fate::Kept), None);
}

#[test]
fn what_was_changed_after_a_sync_falls_back_to_it() {
    assert_eq!(file_after("overwrite after sync", Fate::Lost).unwrap(), "old content");
    assert_eq!(file_after("overwrite after sync", Fate::Kept).unwrap(), "NEW ");
}

#[test]
fn folders_are_kept_by_their_parents() {
    let left = after("folders", Fate::Lost);
    assert_eq!(left.differences(&Image::default()), [Path::new("kept")]);
    let left = after("folders", Fate::Kept);
    assert_eq!(left.differences(&Image::default()), ["kept", "kept/lost"].map(Path::new));
}

#[test]
fn the_journal_tells_what_the_folder_holds() {
    for (deed, _) in DEEDS {
        let (disk, folder) = done(deed);
        assert_eq!(disk.current().differences(&folder), Vec::<PathBuf>::new(), "{deed}");
    }
}

/// One of each call that is watched, in an order that would show a wrong offset.
fn everything(folder: &Path) {
    fs::create_dir_all(folder.join("a/b")).unwrap();
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).open(folder.join("a/b/c")).unwrap();
    file.write_all(b"0123456789").unwrap();
    file.seek(SeekFrom::Start(2)).unwrap();
    let parts = [std::io::IoSlice::new(b"AB"), std::io::IoSlice::new(b"CDE")];
    assert_eq!(file.write_vectored(&parts).unwrap(), 5);
    file.write_all(b"!").unwrap();
    let mut end = OpenOptions::new().append(true).open(folder.join("a/b/c")).unwrap();
    end.write_all(b"appended").unwrap();
    end.write_all(b"twice").unwrap();
    file.write_all_at(b"far", 100).unwrap();
    file.set_len(101).unwrap();
    fs::rename(folder.join("a/b"), folder.join("moved")).unwrap();
    fs::write(folder.join("moved/d"), "short").unwrap();
    fs::write(folder.join("moved/d"), "x").unwrap();
    fs::rename(folder.join("moved/d"), folder.join("a/e")).unwrap();
    fs::remove_file(folder.join("a/e")).unwrap();
    fs::remove_dir(folder.join("a")).unwrap();
    fs::write(folder.join("inode-used-again"), "new").unwrap();
    fs::copy(folder.join("moved/c"), folder.join("copied")).unwrap();
    let kept = File::create_new(folder.join("allocated")).unwrap();
    for (offset, length) in [(0, 4_096), (10, 100)] {
        fallocate(&kept, FallocateFlags::empty(), offset, length).unwrap();
    }
}
