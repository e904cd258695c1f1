//! The members that a node knew last, in a file beside its data folder. A node whose folder was wiped asks them whether
//! there is a cluster, also those that came after its configuration was written: it must never form a second one.
//!
//! One line for each: the node and its peer address. The file is advice: one that cannot be read is as good as none.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use model::name::NodeId;

use crate::disk::write_durably;

/// Where the members are kept for the data folder `data`.
pub(crate) fn path(data: &Path) -> PathBuf {
    let mut name = data.file_name().map_or_else(|| OsString::from("data"), OsString::from);
    name.push(".members");
    data.with_file_name(name)
}

/// The members that were known last.
pub(crate) fn read(data: &Path) -> BTreeMap<NodeId, String> {
    match fs::read_to_string(path(data)) {
        Ok(text) => text.lines().filter_map(parse).collect(),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, path = %path(data).display(), "the members known last cannot be read");
            }
            BTreeMap::new()
        }
    }
}

fn parse(line: &str) -> Option<(NodeId, String)> {
    let (node, address) = line.split_once(' ')?;
    Some((node.parse().ok()?, address.to_owned()))
}

/// Keeps the members for the next start.
pub(crate) fn write(data: &Path, members: &BTreeMap<NodeId, String>) -> io::Result<()> {
    let text: String = members.iter().map(|(node, address)| format!("{node} {address}\n")).collect();
    write_durably(&path(data), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_back_also_when_the_data_folder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("node-1");
        assert!(read(&data).is_empty());
        let members = BTreeMap::from([(NodeId(1), "a:1".to_owned()), (NodeId(7), "[::1]:2".to_owned())]);
        write(&data, &members).unwrap();
        assert!(!data.exists());
        assert_eq!(read(&data), members);
        fs::write(path(&data), "node-x a:1\nnode-2\nnode-3 c:3\n").unwrap();
        assert_eq!(read(&data), BTreeMap::from([(NodeId(3), "c:3".to_owned())]));
    }
}
