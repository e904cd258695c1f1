//! How many tests ran, added up from what each test binary reports.

use std::fmt;

/// The sum over the `test result:` lines seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Tally {
    /// Adds `line` when it is a test binary's result, and does nothing otherwise.
    pub fn add(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        // `ok. 3 passed; 0 failed; 1 ignored; …`: the verdict ends at the first full stop.
        let Some((_verdict, counts)) = result.split_once(". ") else { return };
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let (Some(number), Some(kind)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// The number of tests that were executed.
    pub fn ran(&self) -> u64 {
        self.passed + self.failed
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_add_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test tally::tests::one ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s",
            "test result: FAILED. 2 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 5, failed: 2, skipped: 1 });
        assert_eq!(tally.ran(), 7);
    }

    #[test]
    fn the_closing_line_names_skipped_tests_only_when_there_are_some() {
        assert_eq!(Tally { passed: 4, failed: 0, skipped: 0 }.to_string(), "4 passed, 0 failed");
        assert_eq!(Tally { passed: 4, failed: 1, skipped: 2 }.to_string(), "4 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn lines_that_only_look_like_a_result_count_nothing() {
        let mut tally = Tally::default();
        for line in
            ["", "test result: ", "test result: ok", "test result: ok. many passed", "12 passed; 0 failed"]
        {
            tally.add(line);
        }
        assert_eq!(tally, Tally::default());
    }
}
