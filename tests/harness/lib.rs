//! Real servers and real processes for the stories: each on its own free port and in its own temporary folder,
//! ended by process id when dropped. It refuses to skip: where a server is missing the test fails and says how to
//! get it, and it refuses to sleep: everything waits for a state, through [`eventually()`].

mod answer;
pub mod bad_disk;
pub mod canary;
pub mod certificates;
pub mod chaos;
pub mod cluster;
pub mod console;
mod eventually;
pub mod false_clock;
pub mod http;
pub mod linear;
pub mod machines;
pub mod moto;
pub mod nemesis;
pub mod network;
pub mod port;
pub mod postgres;
pub mod power;
pub mod process;
pub mod proxy;
pub mod recorder;
pub mod surroundings;

pub use answer::{answered, granted};
pub use cluster::{Cluster, Setup};
pub use eventually::{Look, eventually};
pub use machines::Machines;
pub use moto::Moto;
pub use postgres::Postgres;
pub use process::Child;
pub use proxy::Proxy;
