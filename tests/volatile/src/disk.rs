//! A disk with what is durable on it and what is not yet.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::journal::Record;

/// What lies under a folder, by path within it: the bytes of a file, or nothing for a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl Image {
    /// What lies under `folder` now.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(inner) = folders.pop() {
            for entry in fs::read_dir(folder.join(&inner))? {
                let entry = entry?;
                let path = inner.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    found.insert(path.clone(), None);
                    folders.push(path);
                } else {
                    found.insert(path, Some(fs::read(entry.path())?));
                }
            }
        }
        Ok(Self(found))
    }

    /// Makes `folder` hold exactly this.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir_all(folder)?;
        fs::create_dir(folder)?;
        // A folder stands before what is in it.
        for (path, content) in &self.0 {
            match content {
                Some(bytes) => fs::write(folder.join(path), bytes)?,
                None => fs::create_dir(folder.join(path))?,
            }
        }
        Ok(())
    }

    /// The paths that are not the same in both.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<PathBuf> {
        let mine = self.0.iter().filter(|(path, content)| other.0.get(*path) != Some(content));
        let theirs = other.0.keys().filter(|path| !self.0.contains_key(*path));
        mine.map(|(path, _)| path).chain(theirs).cloned().collect()
    }

    /// The bytes of a file.
    #[must_use]
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        self.0.get(path.as_ref())?.as_deref()
    }
}

/// A file or a folder, by its place in [`Disk::nodes`]. It stays when its last name goes: it may still be open.
pub(crate) type NodeId = usize;

/// The names in a folder.
pub(crate) type Names = BTreeMap<OsString, NodeId>;

const ROOT: NodeId = 0;

#[derive(Debug)]
pub(crate) enum Node {
    File(File),
    Folder { durable: Names, current: Names },
}

/// A file: what is durable, and what has changed since, by the number of the record.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) durable: Vec<u8>,
    pub(crate) changes: Vec<(u64, Change)>,
}

#[derive(Debug)]
pub(crate) enum Change {
    Write { offset: usize, data: Vec<u8> },
    Resize(usize),
}

impl Change {
    pub(crate) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => {
                let end = offset + data.len();
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(data);
            }
            Self::Resize(length) => content.resize(*length, 0),
        }
    }
}

impl File {
    /// The content with the changes before record `end`.
    pub(crate) fn as_of(&self, end: u64) -> Vec<u8> {
        let mut content = self.durable.clone();
        for (_, change) in self.changes.iter().take_while(|(at, _)| *at < end) {
            change.apply(&mut content);
        }
        content
    }

    fn sync(&mut self, covered: u64) {
        self.durable = self.as_of(covered);
        self.changes.retain(|(at, _)| *at >= covered);
    }
}

/// A change of names that happens as a whole or not at all: each folder and name, and what it stands for then.
#[derive(Debug)]
pub(crate) struct Naming {
    pub(crate) at: u64,
    pub(crate) entries: Vec<(NodeId, OsString, Option<NodeId>)>,
}

/// The disk of a program that ran under the layer.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    pub(crate) nodes: Vec<Node>,
    inodes: BTreeMap<u64, NodeId>,
    /// The changes of names that are not durable.
    pub(crate) namings: Vec<Naming>,
    /// How many records were replayed.
    pub(crate) records: u64,
}

impl Disk {
    /// A disk on which everything in `image` is durable and lies under `folder`.
    #[must_use]
    pub fn new(folder: &Path, image: Image) -> Self {
        let root = Node::Folder { durable: Names::new(), current: Names::new() };
        let mut disk = Self {
            folder: folder.to_path_buf(),
            nodes: vec![root],
            inodes: BTreeMap::new(),
            namings: Vec::new(),
            records: 0,
        };
        for (path, content) in image.0 {
            let node = disk.add(match content {
                Some(durable) => Node::File(File { durable, changes: Vec::new() }),
                None => Node::Folder { durable: Names::new(), current: Names::new() },
            });
            let (parent, name) = disk.place(&folder.join(path));
            let (durable, current) = disk.folder(parent);
            durable.insert(name.clone(), node);
            current.insert(name, node);
        }
        disk
    }

    /// Replays a journal that begins where this disk stands.
    ///
    /// # Panics
    ///
    /// When it cannot be what happened to this disk: then the layer has missed a call.
    pub fn replay(&mut self, journal: &[u8]) {
        for record in Record::all(journal) {
            self.take(record);
            self.records += 1;
        }
    }

    /// What a reader of the folder sees: everything that was done.
    #[must_use]
    pub fn current(&self) -> Image {
        self.image(|names| names.1, |file| file.as_of(self.records))
    }

    fn take(&mut self, record: Record<'_>) {
        let at = self.records;
        match record {
            Record::Open { inode, created, path } => {
                if created {
                    let node = self.add(Node::File(File::default()));
                    let (parent, name) = self.place(path);
                    self.rename(vec![(parent, name, Some(node))]);
                }
                let node = self.find(path).unwrap_or_else(|| panic!("{path:?} was opened and is not known"));
                self.inodes.insert(inode, node);
            }
            Record::Write { inode, offset, data } => {
                let offset = usize::try_from(offset).expect("a file fits into memory");
                self.file(inode).changes.push((at, Change::Write { offset, data: data.to_vec() }));
            }
            Record::Resize { inode, length } => {
                let length = usize::try_from(length).expect("a file fits into memory");
                self.file(inode).changes.push((at, Change::Resize(length)));
            }
            Record::Sync { inode, covered } => self.sync(inode, covered),
            Record::Rename { from, to } => {
                let node = self.find(from).unwrap_or_else(|| panic!("{from:?} was renamed and is not known"));
                let ((old, old_name), (new, new_name)) = (self.place(from), self.place(to));
                self.rename(vec![(old, old_name, None), (new, new_name, Some(node))]);
            }
            Record::Unlink { path } => {
                let (parent, name) = self.place(path);
                self.rename(vec![(parent, name, None)]);
            }
            Record::MakeFolder { path } => {
                let node = self.add(Node::Folder { durable: Names::new(), current: Names::new() });
                let (parent, name) = self.place(path);
                self.rename(vec![(parent, name, Some(node))]);
            }
        }
    }

    fn sync(&mut self, inode: u64, covered: u64) {
        let node = *self.inodes.get(&inode).expect("what is synced was opened");
        if let Node::File(file) = &mut self.nodes[node] {
            return file.sync(covered);
        }
        // What was done earlier to a name in another folder must not overtake what is made durable with this one.
        let mut folders = vec![node];
        let mut durable = Vec::new();
        for index in (0..self.namings.len()).rev() {
            let naming = &self.namings[index];
            let touched = naming.entries.iter().any(|(folder, _, _)| folders.contains(folder));
            if naming.at < covered && touched {
                folders.extend(naming.entries.iter().map(|(folder, _, _)| *folder));
                durable.push(self.namings.remove(index));
            }
        }
        for naming in durable.into_iter().rev() {
            self.settle(naming);
        }
    }

    /// Makes a change of names durable.
    pub(crate) fn settle(&mut self, naming: Naming) {
        for (folder, name, node) in naming.entries {
            put(self.folder(folder).0, name, node);
        }
    }

    fn rename(&mut self, entries: Vec<(NodeId, OsString, Option<NodeId>)>) {
        for (folder, name, node) in &entries {
            put(self.folder(*folder).1, name.clone(), *node);
        }
        self.namings.push(Naming { at: self.records, entries });
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn file(&mut self, inode: u64) -> &mut File {
        let node = *self.inodes.get(&inode).expect("what is written was opened");
        match &mut self.nodes[node] {
            Node::File(file) => file,
            Node::Folder { .. } => panic!("a folder is not written to"),
        }
    }

    /// The names in a folder: the durable ones and those of now.
    fn folder(&mut self, node: NodeId) -> (&mut Names, &mut Names) {
        match &mut self.nodes[node] {
            Node::Folder { durable, current } => (durable, current),
            Node::File(_) => panic!("a file holds no names"),
        }
    }

    /// What has this path now.
    fn find(&self, path: &Path) -> Option<NodeId> {
        let inner = path.strip_prefix(&self.folder).expect("the layer records one folder");
        inner.iter().try_fold(ROOT, |node, name| match &self.nodes[node] {
            Node::Folder { current, .. } => current.get(name).copied(),
            Node::File(_) => None,
        })
    }

    /// The folder a path lies in, and its name there.
    fn place(&self, path: &Path) -> (NodeId, OsString) {
        let parent = path.parent().and_then(|parent| self.find(parent));
        let parent = parent.unwrap_or_else(|| panic!("the folder of {path:?} is not known"));
        (parent, path.file_name().expect("the folder itself stays").to_os_string())
    }

    /// Everything that can be reached by the chosen names, with the chosen contents.
    pub(crate) fn image(
        &self,
        names: impl for<'a> Fn((&'a Names, &'a Names)) -> &'a Names,
        mut content: impl FnMut(&File) -> Vec<u8>,
    ) -> Image {
        let mut found = BTreeMap::new();
        let mut folders = vec![(PathBuf::new(), ROOT)];
        while let Some((path, folder)) = folders.pop() {
            let Node::Folder { durable, current } = &self.nodes[folder] else { continue };
            for (name, node) in names((durable, current)) {
                let path = path.join(name);
                match &self.nodes[*node] {
                    Node::File(file) => {
                        found.insert(path, Some(content(file)));
                    }
                    Node::Folder { .. } => {
                        found.insert(path.clone(), None);
                        folders.push((path, *node));
                    }
                }
            }
        }
        Image(found)
    }
}

fn put(names: &mut Names, name: OsString, node: Option<NodeId>) {
    match node {
        Some(node) => names.insert(name, node),
        None => names.remove(&name),
    };
}
