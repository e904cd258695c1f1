//! What a disk would hold after a power cut: a program under `volatile-layer` keeps a journal of what it does to a
//! folder, and [`Disk`] replays it, keeping apart what was made durable from what was not. It refuses to guess: a
//! journal that contradicts the folder is an error of the layer, and ends the test.

mod cut;
mod disk;
pub mod journal;
pub mod orders;

pub use cut::Fate;
pub use disk::{Disk, Image};

/// The folder that is watched, absolute and without symbolic links.
pub const FOLDER_VARIABLE: &str = "VOLATILE_FOLDER";
/// The file that the journal is appended to; it lies outside of the folder.
pub const JOURNAL_VARIABLE: &str = "VOLATILE_JOURNAL";
/// The file with the [`orders::Orders`] for what the disk is to do to the program; it lies outside of the folder.
pub const ORDERS_VARIABLE: &str = "VOLATILE_ORDERS";
