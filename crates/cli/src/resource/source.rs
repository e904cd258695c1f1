//! Where documents come from: files, folders with all that is below them, standard input.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use api::v1;

use super::document::{self, Document};
use crate::exit::Failure;

/// Resources of all `paths`, in the order that their references need. `-` is standard input.
///
/// # Errors
/// When something cannot be read or understood, or nothing is declared at all.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<v1::Resource>, Failure> {
    let mut declared = Vec::new();
    for path in paths {
        for file in files(path)? {
            read(&file, &mut declared)?;
        }
    }
    if declared.is_empty() {
        return Err(Failure::usage("no resource is declared there", "see docs/reference/resources.md"));
    }
    declared.sort_by_key(|(document, _)| document.kind);
    let wire = declared.into_iter().map(|(document, folder)| document.spec.declare(document.name, &folder));
    wire.collect()
}

fn read(file: &Path, declared: &mut Vec<(Document, PathBuf)>) -> Result<(), Failure> {
    let (text, called, folder) = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(|error| unreadable(file, &error))?;
        (text, "<stdin>".to_owned(), PathBuf::from("."))
    } else {
        let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
        (text, file.display().to_string(), file.parent().unwrap_or(Path::new(".")).to_owned())
    };
    for document in document::parse(&text, &called)? {
        let twin =
            |(other, _): &&(Document, PathBuf)| other.kind == document.kind && other.name == document.name;
        if declared.iter().find(twin).is_some() {
            let message = format!("{called}: {} `{}` is declared twice", document.kind.noun(), document.name);
            return Err(Failure::usage(message, "keep one of them"));
        }
        declared.push((document, folder.clone()));
    }
    Ok(())
}

/// The file itself, or all YAML files below the folder, sorted by path.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if path == Path::new("-") || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?.path();
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|end| end == "yaml" || end == "yml") {
                found.push(entry);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("`{}` cannot be read: {error}", path.display()), "")
}
