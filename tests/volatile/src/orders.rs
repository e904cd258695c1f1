//! What a disk is ordered to do to a program that uses it: to fail, to stall, to run out of room. The orders stand in a
//! file that the program's layer reads at every call, so that a test changes them while the program runs.

use std::fmt;

/// Calls that an order is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `fsync` and `fdatasync`.
    Sync,
    /// `write`, `writev` and `pwrite`.
    Write,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It fails with `EIO`, and nothing is done.
    Fails,
    /// It does not come back as long as the order stands.
    Stalls,
}

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which calls.
    pub call: Call,
    /// What becomes of them.
    pub fate: Fate,
    /// Files whose path below the folder begins with this; it has no spaces.
    pub below: String,
}

/// How much room there is from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Tells an order from the one before: the bytes count from when a new number is seen.
    pub number: u64,
    /// Files may grow by so much, and by what is removed meanwhile.
    pub bytes: u64,
}

/// All orders that stand. None by default: the disk does what it should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// What fails or stalls.
    pub orders: Vec<Order>,
    /// The room, when it is bounded.
    pub room: Option<Room>,
}

impl Orders {
    /// Reads what `Display` wrote. What is not understood is an error of the test.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for line in text.lines() {
            let unknown = || format!("not an order: `{line}`");
            match *line.split(' ').collect::<Vec<_>>() {
                ["room", number, bytes] => {
                    let number = number.parse().map_err(|_| unknown())?;
                    let bytes = bytes.parse().map_err(|_| unknown())?;
                    read.room = Some(Room { number, bytes });
                }
                [call, fate, below] => {
                    let call = match call {
                        "sync" => Call::Sync,
                        "write" => Call::Write,
                        _ => return Err(unknown()),
                    };
                    let fate = match fate {
                        "fails" => Fate::Fails,
                        "stalls" => Fate::Stalls,
                        _ => return Err(unknown()),
                    };
                    read.orders.push(Order { call, fate, below: below.into() });
                }
                _ => return Err(unknown()),
            }
        }
        Ok(read)
    }

    /// What becomes of a call to a file with this path below the folder.
    #[must_use]
    pub fn fate(&self, call: Call, path: &str) -> Option<Fate> {
        let meant = |order: &&Order| order.call == call && path.starts_with(&order.below);
        self.orders.iter().find(meant).map(|order| order.fate)
    }
}

impl fmt::Display for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Order { call, fate, below } in &self.orders {
            let call = match call {
                Call::Sync => "sync",
                Call::Write => "write",
            };
            let fate = match fate {
                Fate::Fails => "fails",
                Fate::Stalls => "stalls",
            };
            writeln!(f, "{call} {fate} {below}")?;
        }
        self.room.map_or(Ok(()), |Room { number, bytes }| writeln!(f, "room {number} {bytes}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_back() {
        let order = |call, fate, below: &str| Order { call, fate, below: below.into() };
        let orders = Orders {
            orders: vec![order(Call::Sync, Fate::Fails, "log/"), order(Call::Write, Fate::Stalls, "")],
            room: Some(Room { number: 3, bytes: 77 }),
        };
        assert_eq!(Orders::parse(&orders.to_string()), Ok(orders.clone()));
        assert_eq!(Orders::parse(""), Ok(Orders::default()));
        assert!(Orders::parse("sync sings log/").is_err());
        assert_eq!(orders.fate(Call::Sync, "log/r-0.wal"), Some(Fate::Fails));
        assert_eq!(orders.fate(Call::Sync, "state/db"), None);
        assert_eq!(orders.fate(Call::Write, "state/db"), Some(Fate::Stalls));
    }
}
