//! Canaries: secrets with a known value, searched for wherever a secret must not be.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use memchr::memmem;

/// Shorter secrets turn up by chance.
const SHORTEST: usize = 8;

/// A secret and every form in which it is searched for: raw, hexadecimal, and base64 at any position inside a
/// longer encoded value. Its `Debug` shows the name alone.
#[derive(Clone)]
pub struct Canary {
    name: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

/// A place where a canary was found. It names the canary, and never shows the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The canary's name.
    pub canary: String,
    /// How the secret was written.
    pub form: &'static str,
    /// The file, or the name given to the text.
    pub place: String,
    /// The byte at which it begins; `None` when the file's path itself holds it.
    pub offset: Option<usize>,
}

impl Canary {
    /// A canary called `name` in reports.
    ///
    /// # Panics
    ///
    /// When `secret` has fewer than 8 bytes.
    #[must_use]
    pub fn new(name: &str, secret: impl AsRef<[u8]>) -> Self {
        let secret = secret.as_ref();
        assert!(secret.len() >= SHORTEST, "the canary `{name}` has fewer than {SHORTEST} bytes");
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![("raw", secret.to_vec()), ("hex", hex.clone().into_bytes())];
        forms.push(("upper-case hex", hex.to_uppercase().into_bytes()));
        for shift in 0..3 {
            forms.push(("base64", base64_inside(&STANDARD, secret, shift)));
            forms.push(("url-safe base64", base64_inside(&URL_SAFE, secret, shift)));
        }
        // The alphabets differ in two characters only: most forms come out the same in both.
        let mut unique: Vec<(&'static str, Vec<u8>)> = Vec::new();
        for form in forms {
            if unique.iter().all(|(_, known)| *known != form.1) {
                unique.push(form);
            }
        }
        Self { name: name.to_string(), forms: unique }
    }

    /// Every form of this canary in `bytes`, its first occurrence each; `place` goes into the report.
    #[must_use]
    pub fn find(&self, place: &str, bytes: impl AsRef<[u8]>) -> Vec<Sighting> {
        let sighted = self.forms.iter().filter_map(|(form, pattern)| {
            let offset = memmem::find(bytes.as_ref(), pattern)?;
            Some(Sighting { canary: self.name.clone(), form, place: place.to_string(), offset: Some(offset) })
        });
        sighted.collect()
    }
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canary").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Searches every file under `folder`, paths included, for all of `canaries`. Symbolic links are not followed; a
/// file that is removed meanwhile is passed over, so that running servers can be searched.
///
/// # Errors
///
/// A file or folder that is there and cannot be read.
pub fn search(canaries: &[Canary], folder: &Path) -> io::Result<Vec<Sighting>> {
    let mut sightings = Vec::new();
    for entry in gone_is_empty(std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>))? {
        let path = entry.path();
        let kind = match entry.file_type() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            kind => kind?,
        };
        if kind.is_dir() {
            sightings.extend(search(canaries, &path)?);
        } else if kind.is_file() {
            let bytes = gone_is_empty(std::fs::read(&path))?;
            let place = path.display().to_string();
            let name = entry.file_name().to_string_lossy().into_owned();
            for canary in canaries {
                let named = canary.find(&place, &name);
                sightings.extend(named.into_iter().map(|sighting| Sighting { offset: None, ..sighting }));
                sightings.extend(canary.find(&place, &bytes));
            }
        }
    }
    Ok(sightings)
}

fn gone_is_empty<T: Default>(read: io::Result<T>) -> io::Result<T> {
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
        read => read,
    }
}

/// The characters that encode `secret`, and nothing beside it, when `shift` bytes of its group of three precede it.
fn base64_inside(alphabet: &Alphabet, secret: &[u8], shift: usize) -> Vec<u8> {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret);
    let encoded = GeneralPurpose::new(alphabet, NO_PAD).encode(&bytes);
    let first_own = (shift * 8).div_ceil(6);
    let first_shared = bytes.len() * 8 / 6;
    encoded.as_bytes()[first_own..first_shared].to_vec()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose;

    use super::*;

    const SECRET: &[u8] = b"canary~~>>??\xff-4711";

    fn forms(bytes: &[u8]) -> Vec<&'static str> {
        Canary::new("it", SECRET).find("there", bytes).iter().map(|sighting| sighting.form).collect()
    }

    #[test]
    fn every_form_is_found_inside_other_bytes() {
        assert_eq!(forms(&[b"x=".as_slice(), SECRET, b";"].concat()), ["raw"]);
        assert_eq!(forms(b"63616e6172797e7e3e3e3f3fff2d34373131"), ["hex"]);
        assert_eq!(forms(b"\"63616E6172797E7E3E3E3F3FFF2D34373131\""), ["upper-case hex"]);
        assert_eq!(forms(b"nothing of the kind"), Vec::<&str>::new());
    }

    #[test]
    fn base64_is_found_at_every_alignment_and_length() {
        for before in 0..7 {
            for after in 0..4 {
                let bytes = [vec![b'<'; before].as_slice(), SECRET, vec![b'>'; after].as_slice()].concat();
                assert_eq!(forms(general_purpose::STANDARD.encode(&bytes).as_bytes()), ["base64"]);
                assert_eq!(
                    forms(general_purpose::URL_SAFE_NO_PAD.encode(&bytes).as_bytes()),
                    ["url-safe base64"]
                );
            }
        }
    }

    #[test]
    fn files_and_their_names_are_searched() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("clean"), "nothing").unwrap();
        std::fs::write(inner.join("log"), "password=swordfish-1").unwrap();
        std::fs::write(inner.join("swordfish-1.pid"), "1").unwrap();

        let canary = Canary::new("the password", "swordfish-1");
        let mut found = search(&[canary], folder.path()).unwrap();
        found.sort_by_key(|sighting| sighting.offset);
        let seen: Vec<_> = found.iter().map(|sighting| (sighting.form, sighting.offset)).collect();
        assert_eq!(seen, [("raw", None), ("raw", Some(9))]);
        assert!(!format!("{:?}", Canary::new("the password", "swordfish-1")).contains("swordfish"));
    }
}
